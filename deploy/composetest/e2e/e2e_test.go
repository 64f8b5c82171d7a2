//go:build e2e

// Package e2e runs docker-compose.yml under a real Docker engine: it scales, kills and restarts
// what a person would, under load, and judges by what the broker holds at the end.
package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/faulttest"
	"rollcall/internal/history"
)

const (
	// rate is what is published besides the producer of the compose file, per second: enough
	// that every step meets jobs in every state.
	rate = 300
	// settled bounds how long the pool may take to finish what is left: the flaky service
	// puts jobs off, and a killed worker's leases have to run out.
	settled = 3 * time.Minute
)

// TestCompose is one run through the life of a deployment. The steps build on each other.
func TestCompose(t *testing.T) {
	s := newStack(t)
	s.up()
	run := &run{stack: s, js: connect(t, s.nats)}
	step := steps(t)
	step("a person sees jobs flow", run.jobsFlow)
	step("the image is what it says", run.image)
	run.load = faulttest.NewLoad(t, run.js, "JOBS", "jobs.e2e")
	stop := run.load.Start(rate)
	step("scale 1, 4, 2 under load", run.scaling)
	step("kill -9 of a worker", run.crash)
	step("restart of the broker", run.brokerRestart)
	step("stop drains", run.drain)
	stop()
	step("judgement", run.judge)
}

// TestComposeCluster loses one broker of three after the other, and none of the jobs.
func TestComposeCluster(t *testing.T) {
	s := newStack(t, "COMPOSE_ENV_FILES=../../../deploy/cluster.env")
	s.up()
	run := &run{stack: s, js: connect(t, s.nats)}
	step := steps(t)
	run.load = faulttest.NewLoad(t, run.js, "JOBS", "jobs.e2e")
	stop := run.load.Start(rate)
	for _, node := range []string{"nats-2", "nats-3"} {
		step("kill -9 of "+node, func(t *testing.T) { run.lose(t, node) })
	}
	stop()
	step("judgement", run.judge)
}

// steps returns what runs the steps of a test and notes how long each took.
func steps(t *testing.T) func(name string, f func(*testing.T)) {
	return func(name string, f func(*testing.T)) {
		begun := time.Now()
		f(t)
		t.Logf("%s: %.1fs", name, time.Since(begun).Seconds())
	}
}

// run is what the steps share.
type run struct {
	*stack
	js   jetstream.JetStream
	load *faulttest.Load
}

func connect(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))
	if err != nil {
		t.Fatalf("reach the broker at its published port: %v", err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// jobsFlow does what the head of the compose file proposes first.
func (r *run) jobsFlow(t *testing.T) {
	if n := len(r.workers()); n != 2 {
		t.Errorf("%d workers are up, want 2", n)
	}
	if got := len(strings.Split(r.compose("exec", "-T", "worker", "/worker", "events", "--count=3", "--output=jsonl"), "\n")); got != 3 {
		t.Errorf("asked for 3 events, got %d", got)
	}
	// The id is one that the flaky service says ok to; of those that NATS gives, it refuses 1 %.
	r.compose("exec", "-T", "worker", "/worker", "publish", "jobs.demo", `{"to":"ann"}`, "--id=ann", "--wait", "--timeout=60s")
	for i := range 2 {
		address := r.compose("port", fmt.Sprintf("--index=%d", i+1), "worker", "8080")
		for _, page := range []string{"/readyz", "/metrics", "/"} {
			eventually(t, 30*time.Second, func() error { return served("http://" + address + page) })
		}
	}
	// A replica that is slow to answer on a busy machine is not listed.
	eventually(t, 30*time.Second, func() error {
		var status struct {
			Replicas []json.RawMessage
		}
		if err := json.Unmarshal([]byte(r.compose("exec", "-T", "worker", "/worker", "status", "--output=json")), &status); err != nil {
			return err
		}
		if len(status.Replicas) != 2 {
			return fmt.Errorf("status lists %d replicas, want 2", len(status.Replicas))
		}
		return nil
	})
}

// served returns why a page is not there.
func served(url string) error {
	response, err := http.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}

func (r *run) image(t *testing.T) {
	worker := r.workers()[0]
	if user := r.inspect(worker, ".Config.User"); user != "65532:65532" {
		t.Errorf("runs as %q", user)
	}
	if _, err := r.try("exec", worker, "sh", "-c", "true"); err == nil {
		t.Error("the image has a shell")
	}
	var build struct{ Version, Revision string }
	if err := json.Unmarshal([]byte(r.docker("exec", worker, "/worker", "version", "--output=json")), &build); err != nil {
		t.Fatal(err)
	}
	label := func(name string) string {
		return r.inspect(worker, `index .Config.Labels "org.opencontainers.image.`+name+`"`)
	}
	if build.Version == "" || build.Version != label("version") || build.Revision != label("revision") {
		t.Errorf("the binary says %+v, the labels %q and %q", build, label("version"), label("revision"))
	}
}

func (r *run) scaling(t *testing.T) {
	for _, n := range []int{1, 4, 2} {
		before := r.committed(t)
		r.scale(n)
		r.progress(t, before)
	}
	r.drained(t, 4) // 2→1 and 4→2; a third may follow below
}

// drained checks that at most so many workers ended by now, and each in good order.
func (r *run) drained(t *testing.T, most int) {
	ended := r.dead.of("worker")
	if len(ended) == 0 || len(ended) > most {
		t.Errorf("%d workers ended, want 1 to %d", len(ended), most)
	}
	for _, d := range ended {
		if d.code != 0 {
			t.Errorf("worker %.12s exited with %d after a stop, want 0", d.id, d.code)
		}
	}
}

// crash kills a worker with whatever it holds, and brings another one up.
func (r *run) crash(t *testing.T) {
	before, victim := r.committed(t), r.workers()[0]
	r.docker("kill", "--signal=KILL", victim)
	eventually(t, 60*time.Second, func() error {
		if slices.ContainsFunc(r.dead.of("worker"), func(d death) bool { return d.id == victim && d.code == 137 }) {
			return nil
		}
		return fmt.Errorf("%.12s did not die of SIGKILL: %v", victim, r.dead.of("worker"))
	})
	r.progress(t, before) // the other one goes on alone
	r.scale(2)
}

// brokerRestart restarts the broker under the feet of everybody. Workers must outlive it.
func (r *run) brokerRestart(t *testing.T) {
	before, deaths := r.workers(), len(r.dead.of("worker"))
	r.compose("restart", "nats")
	eventually(t, 60*time.Second, func() error { _, err := r.js.AccountInfo(t.Context()); return err })
	r.progress(t, r.committed(t))
	r.scale(2)
	if after := r.workers(); !slices.Equal(before, after) || len(r.dead.of("worker")) != deaths {
		t.Errorf("the broker's restart cost workers: had %v, have %v", before, after)
	}
}

// lose kills one node of the cluster, sees that work goes on, and brings it back.
func (r *run) lose(t *testing.T, node string) {
	r.compose("kill", "--signal=KILL", node)
	r.progress(t, r.committed(t))
	r.up()
	// Two nodes hold everything that counts; the third has to catch up before another may go.
	for _, stream := range []string{"JOBS", "DONE", "DEAD"} {
		eventually(t, 60*time.Second, func() error { return r.inSync(t, stream) })
	}
}

// inSync reports whether each replica of a stream has all of it.
func (r *run) inSync(t *testing.T, name string) error {
	stream, err := r.js.Stream(t.Context(), name)
	if err != nil {
		return err
	}
	cluster := stream.CachedInfo().Cluster
	if cluster == nil || cluster.Leader == "" || len(cluster.Replicas) != 2 {
		return fmt.Errorf("stream %s: %+v, want a leader and two replicas", name, cluster)
	}
	for _, replica := range cluster.Replicas {
		if replica.Offline || !replica.Current {
			return fmt.Errorf("stream %s on %s: %+v", name, replica.Name, *replica)
		}
	}
	return nil
}

// drain stops all workers at once, under load, and starts them again.
func (r *run) drain(t *testing.T) {
	stopping := r.workers()
	begun := time.Now()
	r.compose("stop", "worker")
	if took := time.Since(begun); took > 35*time.Second {
		t.Errorf("the stop took %v, as long as the grace period", took)
	}
	for _, id := range stopping {
		if code := r.inspect(id, ".State.ExitCode"); code != "0" {
			t.Errorf("worker %.12s exited with %s, want 0", id, code)
		}
	}
	r.scale(2)
}

// committed is how much the ledger stream ever took: pages and events.
func (r *run) committed(t *testing.T) uint64 {
	t.Helper()
	var n uint64
	eventually(t, 60*time.Second, func() error {
		stream, err := r.js.Stream(t.Context(), "DONE")
		if err != nil {
			return err
		}
		n = stream.CachedInfo().State.LastSeq
		return nil
	})
	return n
}

// progress waits until some batches more than before are committed.
func (r *run) progress(t *testing.T, before uint64) {
	t.Helper()
	eventually(t, 60*time.Second, func() error {
		if now := r.committed(t); now < before+10 {
			return fmt.Errorf("the ledger is at %d, it was at %d before", now, before)
		}
		return nil
	})
}

// judge lets everything come to rest and compares what was accepted with what is stored.
func (r *run) judge(t *testing.T) {
	r.compose("stop", "producer")
	faulttest.WaitRest(t, r.js, "JOBS", "default", settled)
	events, err := faulttest.Events(t.Context(), r.js)
	if err != nil {
		t.Fatal(err)
	}
	letters, err := faulttest.DeadLetters(t.Context(), r.js)
	if err != nil {
		t.Fatal(err)
	}
	mine := r.load.Accepted()
	accepted := append(slices.Clone(mine), published(events, "jobs.demo")...)
	h := history.History{Accepted: accepted, Events: events, DeadLetters: letters, AtRest: true}
	for i, v := range h.Violations() {
		if i == 20 {
			t.Error("… and more")
			break
		}
		t.Error(v)
	}
	if len(accepted) < rate {
		t.Errorf("only %d jobs were accepted, so the run shows little", len(accepted))
	}
	t.Logf("%d jobs accepted here, %d of the producer; %d events, %d dead letters",
		len(mine), len(accepted)-len(mine), len(events), len(letters))
}

// published are the jobs of a subject that occur in the events. The producer of the compose
// file keeps no list; of its jobs it is only shown that none is final twice and none is left.
func published(events []history.Event, subject string) []history.Job {
	seen := map[string]bool{}
	var found []history.Job
	for _, e := range events {
		for _, job := range e.Data.Jobs {
			if job.Subject == subject && !seen[job.UID] {
				seen[job.UID] = true
				found = append(found, history.Job{UID: job.UID, ID: job.ID})
			}
		}
	}
	return found
}
