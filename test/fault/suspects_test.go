//go:build fault && linux

package fault_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/faulttest"
)

// plain makes a scenario with the pool's settings as they are by default.
func plain(t *testing.T, services ...string) *faulttest.Scenario {
	t.Helper()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, services)
	for _, name := range []string{"ROLLCALL_BATCH_SIZE", "ROLLCALL_BATCHES_IN_FLIGHT", "ROLLCALL_ACK_WAIT"} {
		delete(s.Env, name)
	}
	return s
}

// TestFailingJobsWithLargeHeadersAndNoRoomForDeadLetters: bodies of two bytes, headers of 60 kB, and
// nothing can end. What a replica holds is bounded by bytes as they are in memory.
func TestFailingJobsWithLargeHeadersAndNoRoomForDeadLetters(t *testing.T) {
	t.Parallel()
	const jobs, bound = 3000, 200 << 20
	s := plain(t, "billing")
	s.Env = s.Env.With("ROLLCALL_DRAIN_TIMEOUT", "1s")
	s.Setup()
	refuseAll(t, s.JS, "DEAD")
	s.Services[0].Answer(func(faulttest.Request) faulttest.Answer { return faulttest.Answer{Status: 422} })
	header := nats.Header{"X-Large": {strings.Repeat("x", 60_000)}}
	for range jobs {
		s.Load.Send(&nats.Msg{Subject: "jobs.test", Data: []byte("{}"), Header: header}, patience)
	}
	w := s.Start()
	// Each batch of 96 is halved down to its jobs: 191 calls.
	faulttest.Until(t, 2*patience, "every job has failed", func() bool { return s.Services[0].Count() >= jobs })
	peak := w.PeakRSS()
	t.Logf("at most %d MiB resident", peak>>20)
	if peak > bound {
		t.Errorf("the worker had %d MiB resident, want at most %d", peak>>20, bound>>20)
	}
	w.Signal(syscall.SIGTERM)
	w.WaitExit(patience)
}

// refuseAll bounds a stream so that it takes nothing more.
func refuseAll(t *testing.T, js jetstream.JetStream, name string) {
	t.Helper()
	stream, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxBytes, cfg.Discard = 1, jetstream.DiscardNew
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

// TestTwoKillsOfAFullReplicaCostSeconds: everything that a killed replica held is suspect. Called for
// one by one, with all else waiting, 700 jobs took two and a half minutes.
func TestTwoKillsOfAFullReplicaCostSeconds(t *testing.T) {
	t.Parallel()
	const jobs = 700
	s := plain(t, "billing")
	s.Env = s.Env.With("ROLLCALL_ACK_WAIT", "3s")
	s.Setup()
	s.Services[0].Hang()
	s.Load.Publish(jobs, patience)
	for kill := 1; kill <= 2; kill++ {
		w := s.Start()
		faulttest.Until(t, patience, "every job was called for", func() bool { return len(s.Services[0].Calls()) >= kill*jobs })
		w.Signal(syscall.SIGKILL)
		w.WaitExit(patience)
	}
	s.Services[0].Answer(func(faulttest.Request) faulttest.Answer { return faulttest.Answer{Wait: 200 * time.Millisecond} })
	w := s.Start()
	began := time.Now()
	faulttest.Until(t, 2*patience, "every job is done", s.AtRest)
	took := time.Since(began)
	t.Logf("700 suspects took %s", took)
	// A lease of 3 s, 15 groups of 48 with calls of 0.2 s each, and as much again for a loaded machine.
	if took > 15*time.Second {
		t.Errorf("700 suspects took %s", took)
	}
	w.Signal(syscall.SIGTERM)
	w.WaitExit(patience)
}
