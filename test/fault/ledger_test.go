//go:build fault && linux

package fault_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/faulttest"
	"rollcall/internal/history"
)

// horizon is a short ROLLCALL_ZOMBIE_HORIZON, so that the ledger forgets within the test.
const horizon = 5 * time.Second

// forgetful makes the ledger of a scenario forget soon.
func forgetful(s *faulttest.Scenario) {
	s.Env = s.Env.With("ROLLCALL_ZOMBIE_HORIZON", horizon.String(), "ROLLCALL_LEDGER_TTL", horizon.String())
}

// pages is how many pages the ledger has.
func pages(t *testing.T, s *faulttest.Scenario) int {
	t.Helper()
	done, err := s.JS.Stream(t.Context(), "DONE")
	if err != nil {
		t.Fatal(err)
	}
	info, err := done.Info(t.Context(), jetstream.WithSubjectFilter("done.ledger.*.page.>"))
	if err != nil {
		t.Fatal(err)
	}
	return len(info.State.Subjects)
}

// TestPartitionLongerThanTheHorizon: a replica is cut off while its service answers. It loses its
// leases and gives the batches up; another one finishes the jobs, and the ledger forgets them.
// When the line comes back nothing of what was given up may reach the broker: neither what waits in
// the replica, nor what was sent and is under way.
func TestPartitionLongerThanTheHorizon(t *testing.T) {
	t.Parallel()
	for name, part := range map[string]func(*faulttest.Proxy){
		"cut":              (*faulttest.Proxy).Cut,
		"swallows all":     func(p *faulttest.Proxy) { p.Blackhole() },
		"swallows commits": func(p *faulttest.Proxy) { p.Blackhole(faulttest.Up) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			partBeyondTheHorizon(t, part)
		})
	}
}

func partBeyondTheHorizon(t *testing.T, part func(*faulttest.Proxy)) {
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	proxy := newProxy(t, broker.Addr())
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
	s.Services[0].Answer(func(faulttest.Request) faulttest.Answer { return faulttest.Answer{Wait: time.Second} })
	forgetful(s)
	s.Setup()
	cutOff := s.Start("NATS_URL", "nats://"+proxy.Addr())
	s.Load.Publish(40, patience)
	faulttest.Until(t, patience, "calls are under way", func() bool { return s.Services[0].Count() > 0 })
	part(proxy)
	began := time.Now()
	s.Start()
	faulttest.WaitRest(t, s.JS, "JOBS", "default", patience)
	faulttest.Until(t, patience, "the ledger forgot the jobs", func() bool { return pages(t, s) == 0 })
	proxy.Heal()
	faulttest.Until(t, patience, "ready again", cutOff.Ready)
	s.Load.Publish(40, patience)
	s.Judge(patience, history.History{Grace: time.Since(began)})
}

// TestJobStreamMadeAgainInFlight: the job stream is deleted while services are called, and made
// again. The acks of the old calls must not remove new jobs, which have the same numbers.
func TestJobStreamMadeAgainInFlight(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
	s.Services[0].Answer(func(faulttest.Request) faulttest.Answer { return faulttest.Answer{Wait: 3 * time.Second} })
	s.Setup()
	w := s.Start()
	s.Load.Publish(40, patience)
	faulttest.Until(t, patience, "calls are under way", func() bool { return s.Services[0].Count() > 0 })
	if err := s.JS.DeleteStream(t.Context(), "JOBS"); err != nil {
		t.Fatal(err)
	}
	faulttest.Until(t, patience, "the stream was made again", func() bool {
		_, err := s.JS.Consumer(t.Context(), "JOBS", "default")
		return err == nil
	})
	old := map[string]bool{}
	for _, job := range s.Load.Accepted() {
		old[job.UID] = true
	}
	accepted := s.Load.Accepted()
	s.Load = faulttest.NewLoad(t, s.JS, "JOBS", "jobs.again")
	s.Load.Publish(40, patience)
	answered := time.Now()
	faulttest.Until(t, patience, "the old calls have ended", func() bool { return time.Since(answered) > 4*time.Second })
	w.Kill()
	s.Services[0].Answer(func(faulttest.Request) faulttest.Answer { return faulttest.Answer{} })
	s.Start()
	faulttest.WaitRest(t, s.JS, "JOBS", "default", patience)
	h := history.History{AtRest: true, Grace: patience}
	s.Collect(&h)
	h.Accepted = append(h.Accepted, accepted...)
	for _, v := range h.Violations() {
		// Deleting a stream loses its jobs; that is not promised.
		if v.Rule != history.Lost || !old[v.UID] {
			t.Error(v)
		}
	}
}

// TestOnePoolNameOnTwoStreams: two pools of one name take jobs from a stream each. What one of
// them sweeps must not be the ledger of the other: a success that was written down stays known.
func TestOnePoolNameOnTwoStreams(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing", "search"})
	forgetful(s)
	s.Env = s.Env.With("ROLLCALL_RETRY_MIN", "2s", "ROLLCALL_RETRY_MAX", "4s")
	s.Services[1].Answer(faulttest.Each(func(job faulttest.Asked) string {
		if strings.HasPrefix(job.ID, "jobs.") {
			return "retry" // of JOBS; those of OTHER succeed
		}
		return "ok"
	}))
	s.Setup()
	other := []string{"ROLLCALL_STREAM", "OTHER", "ROLLCALL_SUBJECTS", "other.>"}
	if _, err := s.JS.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "OTHER", Subjects: []string{"other.>"}, Retention: jetstream.WorkQueuePolicy,
	}); err != nil {
		t.Fatal(err)
	}
	if out, err := s.Command(s.Env.With(other...), "setup"); err != nil {
		t.Fatalf("worker setup: %v\n%s", err, out)
	}
	s.Load.Publish(48, patience)
	s.Start()
	faulttest.Until(t, patience, "every job was tried", func() bool { return len(s.Services[1].Calls()) >= 48 })
	busy := faulttest.NewLoad(t, s.JS, "OTHER", "other.test")
	s.Start(other...)
	began := time.Now()
	for time.Since(began) < 3*horizon {
		busy.Publish(20, patience)
		faulttest.Tick(t)
	}
	s.Services[1].Answer(func(faulttest.Request) faulttest.Answer { return faulttest.Answer{} })
	faulttest.WaitRest(t, s.JS, "OTHER", "default", patience)
	faulttest.WaitRest(t, s.JS, "JOBS", "default", patience)
	h := history.History{AtRest: true, Calm: true}
	s.Collect(&h)
	h.Accepted = append(h.Accepted, busy.Accepted()...)
	s.Report(&h)
}

// TestDeadLetterStreamDeleted: jobs that fail wait for their dead letters, and hold up nothing.
func TestDeadLetterStreamDeleted(t *testing.T) {
	t.Parallel()
	for _, ensure := range []bool{true, false} {
		t.Run(fmt.Sprint("ensure ", ensure), func(t *testing.T) {
			t.Parallel()
			broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
			s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
			s.Services[0].Answer(mixed())
			s.Setup()
			w := s.Start("ROLLCALL_ENSURE", fmt.Sprint(ensure))
			if err := s.JS.DeleteStream(t.Context(), "DEAD"); err != nil {
				t.Fatal(err)
			}
			s.Load.Publish(200, patience)
			if !ensure {
				faulttest.Until(t, patience, "the others are done", func() bool { return waiting(t, s) == 20 })
				faulttest.Until(t, patience, "the log says what is missing", func() bool { return strings.Contains(w.Log(), "DEAD") })
				if found, _ := s.Command(s.Env, "doctor"); !strings.Contains(found, "DEAD") {
					t.Errorf("doctor does not name the stream:\n%s", found)
				}
				if out, err := s.Command(s.Env, "setup"); err != nil {
					t.Fatalf("worker setup: %v\n%s", err, out)
				}
			}
			h := s.Judge(patience, history.History{Grace: patience})
			if len(h.DeadLetters) < 20 {
				t.Errorf("%d dead letters, want one for each tenth job", len(h.DeadLetters))
			}
		})
	}
}

// waiting is how many jobs the stream holds.
func waiting(t *testing.T, s *faulttest.Scenario) uint64 {
	t.Helper()
	stream, err := s.JS.Stream(t.Context(), "JOBS")
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.Msgs
}

// TestADeployThatShortensTheHorizon: a replica with a long horizon stands still before its commit
// while others with a short one finish its jobs. It must be refused all the same when it wakes.
func TestADeployThatShortensTheHorizon(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
	s.Setup()
	s.Load.Publish(300, patience)
	old := s.StartStopper("before_commit", 2)
	faulttest.Until(t, patience, "the old replica stands before its commit", old.Paused)
	asleep := time.Now()
	forgetful(s)
	s.Start()
	faulttest.WaitRest(t, s.JS, "JOBS", "default", patience)
	faulttest.Until(t, patience, "three short horizons have passed", func() bool { return time.Since(asleep) > 3*horizon+2*lease })
	old.Resume()
	faulttest.Until(t, patience, "ready", old.Ready)
	s.Load.Publish(100, patience)
	s.Judge(patience, history.History{Grace: time.Since(asleep)})
}
