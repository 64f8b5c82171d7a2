//go:build fault && linux

package fault_test

import (
	"syscall"
	"testing"
	"time"

	"rollcall/internal/faulttest"
	"rollcall/internal/history"
)

// longLease is so long that no scenario waits for its end: what comes back earlier was handed
// back.
const longLease = "120s"

// TestDrainUnderLoad: SIGTERM while jobs keep coming. The worker finishes what it holds, hands
// the rest back and exits 0; the next one has the rest at once.
func TestDrainUnderLoad(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
	s.Env = s.Env.With("ROLLCALL_ACK_WAIT", longLease, "ROLLCALL_ZOMBIE_HORIZON", "10m")
	s.Services[0].Answer(func(faulttest.Request) faulttest.Answer {
		return faulttest.Answer{Wait: 300 * time.Millisecond}
	})
	s.Setup()
	first := s.Start()
	stop := s.Load.Start(1000)
	faulttest.Progress(t, patience, "calls", s.Services[0].Count)
	first.Signal(syscall.SIGTERM)
	faulttest.Until(t, patience, "not ready while it drains", func() bool { return !first.Ready() })
	if code := first.WaitExit(patience); code != 0 {
		t.Errorf("exit code %d after a drain, want 0", code)
	}
	stop()
	second := s.Start("ROLLCALL_BATCHES_IN_FLIGHT", "16")
	s.Judge(patience, history.History{Calm: true})
	second.Signal(syscall.SIGTERM)
	if code := second.WaitExit(patience); code != 0 {
		t.Errorf("exit code %d of an idle worker, want 0", code)
	}
}

// TestDrainWithAHangingService: the deadline cuts off the calls, the jobs go back at once and
// the exit code shows it.
func TestDrainWithAHangingService(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
	s.Env = s.Env.With("ROLLCALL_ACK_WAIT", longLease, "ROLLCALL_ZOMBIE_HORIZON", "10m", "ROLLCALL_DRAIN_TIMEOUT", "2s")
	s.Services[0].Hang()
	s.Setup()
	s.Load.Publish(100, patience)
	first := s.Start()
	faulttest.Until(t, patience, "every slot hangs in a call", func() bool { return s.Services[0].Count() >= 4 })
	asked := time.Now()
	first.Signal(syscall.SIGTERM)
	if code := first.WaitExit(patience); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	if took := time.Since(asked); took < 2*time.Second || took > 10*time.Second {
		t.Errorf("the drain took %v, want the 2s of ROLLCALL_DRAIN_TIMEOUT and little more", took)
	}
	if events, err := faulttest.Events(t.Context(), s.JS); err != nil || len(events) != 0 {
		t.Errorf("%d events for batches that were cut off, %v", len(events), err)
	}
	s.Services[0].Answer(func(faulttest.Request) faulttest.Answer { return faulttest.Answer{} })
	s.Start()
	s.Judge(patience, history.History{Calm: true})
}

// TestSecondSignalLeavesAtOnce: whoever asks twice does not want to wait.
func TestSecondSignalLeavesAtOnce(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
	s.Env = s.Env.With("ROLLCALL_DRAIN_TIMEOUT", "120s")
	s.Services[0].Hang()
	s.Setup()
	s.Load.Publish(100, patience)
	first := s.Start()
	faulttest.Until(t, patience, "every slot hangs in a call", func() bool { return s.Services[0].Count() >= 4 })
	first.Signal(syscall.SIGTERM)
	faulttest.Until(t, patience, "draining", func() bool { return !first.Ready() })
	first.Signal(syscall.SIGINT)
	// The drain itself would take two minutes.
	if code := first.WaitExit(patience); code == 0 || code == 3 {
		t.Errorf("exit code %d, want one of a failure", code)
	}
	s.Services[0].Answer(func(faulttest.Request) faulttest.Answer { return faulttest.Answer{} })
	s.Start()
	s.Judge(patience, history.History{})
}

// TestScaleOneTenOne: replicas come and go under load; nothing is lost, doubled or late.
func TestScaleOneTenOne(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing", "search"})
	s.Env = s.Env.With("ROLLCALL_ACK_WAIT", "20s", "ROLLCALL_ZOMBIE_HORIZON", "1m", "ROLLCALL_DRAIN_TIMEOUT", "30s")
	s.Setup()
	s.Start()
	stop := s.Load.Start(500)
	var more []*faulttest.Worker
	for range 9 {
		more = append(more, s.Start())
	}
	faulttest.Progress(t, patience, "calls", s.Services[0].Count)
	for _, i := range s.Rand.Perm(len(more)) {
		more[i].Signal(syscall.SIGTERM)
	}
	for _, w := range more {
		if code := w.WaitExit(patience); code != 0 {
			t.Errorf("exit code %d of a replica that was scaled away, want 0", code)
		}
	}
	faulttest.Progress(t, patience, "calls", s.Services[0].Count)
	stop()
	h := s.Judge(patience, history.History{Calm: true})
	replicas := map[string]bool{}
	for _, e := range h.Events {
		replicas[e.Data.Replica] = true
	}
	if len(replicas) < 2 {
		t.Errorf("%d replicas committed batches, want several", len(replicas))
	}
	if n := repeated(h.Calls); n != 0 {
		t.Errorf("%d jobs were called for twice although nothing failed", n)
	}
}
