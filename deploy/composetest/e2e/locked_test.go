//go:build e2e

package e2e_test

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestComposeLocked runs every operator command in a worker's container, against the broker as
// deploy/nats/nats-server.conf locks it.
func TestComposeLocked(t *testing.T) {
	s := newStack(t, "NATS_PRODUCER_PASSWORD=producer-secret", "NATS_WORKER_PASSWORD=worker-secret", "NATS_OPS_PASSWORD=ops-secret")
	s.env = append(s.env, "COMPOSE_FILE=../../../docker-compose.yml:../../../deploy/locked.yml")
	s.up()
	worker := func(args ...string) (string, error) {
		return s.try(append([]string{"compose", "exec", "-T", "worker", "/worker"}, args...)...)
	}
	eventually(t, time.Minute, func() error {
		events, err := worker("events", "--all", "--follow=false", "-o", "jsonl")
		if err == nil && events == "" {
			err = errors.New("no batch is committed")
		}
		return err
	})
	receipt := s.compose("exec", "-T", "worker", "/worker", "publish", "jobs.e2e", "{}", "--id", "e2e-1", "--wait")
	if !strings.Contains(receipt, "e2e-1") {
		t.Errorf("published as ops: %s", receipt)
	}
	for _, args := range [][]string{
		{"status"}, {"setup", "--archive", "30d"}, {"events", "--since", "1h", "--follow=false"},
		{"job", "e2e-1"}, {"set", "ls"}, {"dead", "ls"}, {"dead", "replay", "--service", "nobody", "--dry-run"}, {"dead", "discard", "--service", "nobody", "--yes"},
		{"publish", "jobs.e2e", "{}", "--id", "e2e-2", "--delay", "1h"}, {"cancel", "e2e-2"}, {"erase", "e2e-2", "--yes"}, {"erase", "e2e-1", "--yes"},
		{"schedule", "set", "hourly", "jobs.e2e", "--every", "1h"}, {"schedule", "ls"}, {"schedule", "run", "hourly"}, {"schedule", "rm", "hourly"},
		{"pause", "--for", "1m"}, {"resume"}, {"doctor"},
	} {
		if out, err := worker(args...); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	// Without the operators' login a command says what it lacks.
	out, err := s.try("compose", "exec", "-T", "--env", "NATS_OPS_USER=", "--env", "NATS_OPS_PASSWORD=", "worker", "/worker", "pause", "--for", "1m")
	if err == nil || !strings.Contains(err.Error(), "denies this user: publish $JS.API.CONSUMER.PAUSE") {
		t.Errorf("pause as worker: %v\n%s", err, out)
	}
}
