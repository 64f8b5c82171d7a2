//go:build fault && linux

package fault_test

import (
	"testing"
	"time"

	"rollcall/internal/faulttest"
	"rollcall/internal/history"
)

// absence is how long a broker is away in TestBrokerAbsence.
const absence = time.Minute

// TestBrokerKilledAndRestarted: kill -9 of the only broker under load, with its store.
func TestBrokerKilledAndRestarted(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing", "search"})
	s.Setup()
	workers := []*faulttest.Worker{s.Start(), s.Start()}
	stop := s.Load.Start(400)
	for range 4 {
		faulttest.Progress(t, patience, "calls", s.Services[0].Count)
		away := time.Duration(s.Rand.Int64N(int64(3 * time.Second)))
		t.Logf("away for %v", away)
		broker.Kill()
		killed := time.Now()
		faulttest.Until(t, patience, "the broker was away", func() bool { return time.Since(killed) > away })
		broker.Restart()
	}
	faulttest.Progress(t, patience, "calls", s.Services[0].Count)
	stop()
	// While the broker was away both may have taken a job, and called for it after they had
	// looked: as long as it waits for a slot, a lease and an absence later.
	s.Judge(patience, history.History{Grace: 15 * time.Second})
	for _, w := range workers {
		faulttest.Until(t, patience, "ready again", w.Ready)
	}
}

// TestBrokerAbsence: without a broker a worker lives on, says that it is not ready, does not
// spin, holds no more memory, and goes on by itself.
func TestBrokerAbsence(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
	s.Setup()
	w := s.Start()
	s.Load.Publish(2000, patience)
	faulttest.Progress(t, patience, "calls", s.Services[0].Count)
	broker.Kill()
	faulttest.Until(t, patience, "not ready without a broker", func() bool { return !w.Ready() })
	// What was under way when the broker went may still be finished before the count begins.
	settled := time.Now()
	faulttest.Until(t, patience, "the lease is over", func() bool { return time.Since(settled) > 2*lease })
	before, began := w.CPU(), time.Now()
	faulttest.Until(t, absence+patience, "the broker was away", func() bool { return time.Since(began) > absence })
	used, elapsed := w.CPU()-before, time.Since(began)
	share := 100 * used.Seconds() / elapsed.Seconds()
	t.Logf("%.2f %% of a core over %v without a broker", share, elapsed.Round(time.Second))
	if share > 5 {
		t.Errorf("the worker used %.1f %% of a core while it had nothing to do", share)
	}
	if !w.Running() || !w.Alive() || w.Ready() {
		t.Errorf("without a broker: running %v, alive %v, ready %v; want alive and not ready", w.Running(), w.Alive(), w.Ready())
	}
	broker.Restart()
	faulttest.Until(t, patience, "ready again", w.Ready)
	s.Load.Publish(100, patience)
	s.Judge(patience, history.History{Grace: time.Since(settled)})
}

// TestBlackhole: the connection of one worker swallows everything, without a reset. Its jobs
// go to the other worker, it notices by itself, and takes part again afterwards.
func TestBlackhole(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	proxy := newProxy(t, broker.Addr())
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing", "search"})
	s.Setup()
	cutOff := s.Start("NATS_URL", "nats://"+proxy.Addr())
	s.Start()
	stop := s.Load.Start(200)
	faulttest.Progress(t, patience, "calls", s.Services[0].Count)
	proxy.Blackhole()
	began := time.Now()
	faulttest.Until(t, patience, "the worker noticed", func() bool { return !cutOff.Ready() })
	t.Logf("noticed after %v", time.Since(began).Round(time.Second))
	faulttest.Progress(t, patience, "accepted jobs", func() int { return len(s.Load.Accepted()) })
	proxy.Heal()
	faulttest.Until(t, patience, "ready again", cutOff.Ready)
	lasted := time.Since(began)
	faulttest.Progress(t, patience, "calls", s.Services[0].Count)
	stop()
	s.Judge(patience, history.History{Grace: lasted})
}

// TestBadNetwork: a seeded storm of latency, lost replies, half-closed and reset connections
// between the broker and every worker.
func TestBadNetwork(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	proxy := newProxy(t, broker.Addr())
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing", "search"})
	s.Setup()
	workers := []*faulttest.Worker{
		s.Start("NATS_URL", "nats://"+proxy.Addr()),
		s.Start("NATS_URL", "nats://"+proxy.Addr()),
	}
	stop := s.Load.Start(200)
	for range 25 {
		fault := s.Rand.IntN(6)
		switch fault {
		case 0:
			proxy.Delay(time.Duration(s.Rand.IntN(200)) * time.Millisecond)
		case 1:
			proxy.Blackhole(faulttest.Down) // commits arrive, their replies do not
		case 2:
			proxy.Blackhole(faulttest.Up)
		case 3:
			proxy.HalfClose()
		case 4:
			proxy.Reset()
		case 5:
			proxy.Cut()
		}
		began, lasts := time.Now(), time.Duration(s.Rand.IntN(1000))*time.Millisecond
		faulttest.Until(t, patience, "the fault has lasted", func() bool { return time.Since(began) > lasts })
		if fault == 1 || fault == 2 {
			proxy.Reset() // what was held back is lost for good
		}
		proxy.Heal()
	}
	stop()
	for _, w := range workers {
		faulttest.Until(t, patience, "ready again", w.Ready)
	}
	s.Judge(patience, history.History{Grace: 15 * time.Second})
}

func newProxy(t *testing.T, target string) *faulttest.Proxy {
	t.Helper()
	p, err := faulttest.NewProxy(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}
