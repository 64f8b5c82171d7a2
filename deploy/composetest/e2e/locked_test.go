//go:build e2e

package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// lockedRun runs commands in a worker's container, against the broker as deploy/nats/nats-server.conf
// locks it, and notes which.
type lockedRun struct {
	*stack
	ran map[string]bool
}

// elsewhere are the commands that TestComposeLocked does not run: the containers run the first, and
// the others bring a broker of their own.
var elsewhere = []string{"run", "demo", "dev"}

// TestComposeLocked runs every operator command, and fails if the program has one that it does not
// run.
func TestComposeLocked(t *testing.T) {
	s := newStack(t, "NATS_PRODUCER_PASSWORD=producer-secret", "NATS_WORKER_PASSWORD=worker-secret", "NATS_OPS_PASSWORD=ops-secret")
	s.env = append(s.env, "COMPOSE_FILE=../../../docker-compose.yml:../../../deploy/locked.yml")
	s.up()
	r := &lockedRun{stack: s, ran: map[string]bool{}}
	eventually(t, time.Minute, func() error {
		events, err := r.worker("events", "--all", "--follow=false", "-o", "jsonl")
		if err == nil && events == "" {
			err = errors.New("no batch is committed")
		}
		return err
	})
	if receipt := r.must("publish", "jobs.e2e", "{}", "--id", "e2e-1", "--wait"); !strings.Contains(receipt, "e2e-1") {
		t.Errorf("published as ops: %s", receipt)
	}
	r.letters()
	r.sets()
	for _, args := range [][]string{
		{"status"}, {"setup", "--archive", "30d"}, {"events", "--since", "1h", "--follow=false"}, {"job", "e2e-1"},
		{"publish", "jobs.e2e", "{}", "--id", "e2e-2", "--delay", "1h"}, {"cancel", "e2e-2"}, {"erase", "e2e-2", "--yes"}, {"erase", "e2e-1", "--yes"},
		{"schedule", "set", "hourly", "jobs.e2e", "--every", "1h"}, {"schedule", "ls"}, {"schedule", "run", "hourly"}, {"schedule", "rm", "hourly"},
		{"pause", "--for", "1m"}, {"resume"}, {"doctor"}, {"check", "fast"}, {"config"}, {"probe"}, {"runbook", "RollcallBreakerOpen"}, {"version"}, {"completion", "bash"}, {"help"},
	} {
		if out, err := r.worker(args...); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	// Without the operators' login a command says what it lacks.
	out, err := s.try("compose", "exec", "-T", "--env", "NATS_OPS_USER=", "--env", "NATS_OPS_PASSWORD=", "worker", "/worker", "pause", "--for", "1m")
	if err == nil || !strings.Contains(err.Error(), "denies this user: publish $JS.API.CONSUMER.PAUSE") {
		t.Errorf("pause as worker: %v\n%s", err, out)
	}
	r.drain()
	for _, name := range r.commands() {
		if !r.ran[name] && !slices.Contains(elsewhere, name) {
			t.Errorf("worker %s was not run under the locked broker", name)
		}
	}
}

// worker runs a command in a worker's container.
func (r *lockedRun) worker(args ...string) (string, error) {
	for n := 1; n <= min(len(args), 2); n++ {
		r.ran[strings.Join(args[:n], " ")] = true
	}
	return r.try(append([]string{"compose", "exec", "-T", "worker", "/worker"}, args...)...)
}

// must runs a command that has to succeed.
func (r *lockedRun) must(args ...string) string {
	r.t.Helper()
	out, err := r.worker(args...)
	if err != nil {
		r.t.Fatalf("%v: %v", args, err)
	}
	return out
}

// commands are those of the program, as its completion lists them; of those that have commands of
// their own, these.
func (r *lockedRun) commands() (names []string) {
	list := func(parent ...string) (names []string) {
		args := append(append([]string{"compose", "exec", "-T", "worker", "/worker", "__complete"}, parent...), "")
		for line := range strings.Lines(r.docker(args...)) {
			if name, _, _ := strings.Cut(strings.TrimSpace(line), "\t"); name != "" && !strings.HasPrefix(name, ":") {
				names = append(names, name)
			}
		}
		return names
	}
	for _, name := range list() {
		switch name {
		case "dead", "schedule", "set":
			for _, below := range list(name) {
				names = append(names, name+" "+below)
			}
		default:
			names = append(names, name)
		}
	}
	if len(names) < 25 {
		r.t.Errorf("the program lists only %v", names)
	}
	return names
}

// letters goes through the life of dead letters: jobs for a service that the pool does not have.
func (r *lockedRun) letters() {
	r.t.Helper()
	for _, id := range []string{"e2e-dead-1", "e2e-dead-2"} {
		r.must("publish", "jobs.e2e", "{}", "--id", id, "--header", "Rollcall-Services:nobody")
	}
	var letters []struct{ Seq int }
	eventually(r.t, time.Minute, func() error {
		out, err := r.worker("dead", "ls", "--outcome", "invalid", "-o", "json")
		if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(out), &letters); err != nil || len(letters) != 2 {
			return fmt.Errorf("%d dead letters, want 2: %v", len(letters), err)
		}
		return nil
	})
	first := fmt.Sprint(letters[0].Seq)
	if shown := r.must("dead", "show", first); !strings.Contains(shown, "nobody") {
		r.t.Errorf("dead letter %s: %s", first, shown)
	}
	r.must("dead", "replay", first)
	r.must("dead", "discard", "--outcome", "invalid", "--yes")
}

// sets goes through the life of a set whose size is declared last.
func (r *lockedRun) sets() {
	r.t.Helper()
	r.must("publish", "jobs.e2e", "{}", "--id", "ann", "--header", "Rollcall-Set:e2e")
	r.must("set", "close", "e2e", "--size", "1")
	r.must("set", "wait", "e2e", "--timeout", "1m")
	for _, args := range [][]string{{"set", "ls"}, {"set", "show", "e2e"}, {"set", "cancel", "e2e", "--yes"}} {
		if out := r.must(args...); args[1] != "cancel" && !strings.Contains(out, "succeeded") {
			r.t.Errorf("%v: %s", args, out)
		}
	}
}

// drain takes one replica out, which exits in good order.
func (r *lockedRun) drain() {
	r.t.Helper()
	var status struct{ Replicas []struct{ Replica string } }
	if err := json.Unmarshal([]byte(r.must("status", "-o", "json")), &status); err != nil || len(status.Replicas) == 0 {
		r.t.Fatalf("no replicas: %v", err)
	}
	before := len(r.dead.of("worker"))
	r.must("drain", status.Replicas[0].Replica)
	eventually(r.t, time.Minute, func() error {
		ended := r.dead.of("worker")
		if len(ended) != before+1 || ended[before].code != 0 {
			return fmt.Errorf("workers that ended: %v, want one more than %d, with 0", ended, before)
		}
		return nil
	})
	r.up("--no-recreate") // it is started again
}
