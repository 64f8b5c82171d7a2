//go:build fault && linux

package fault_test

import (
	"testing"
	"time"

	"rollcall/internal/faulttest"
	"rollcall/internal/history"
)

// TestZombieBeforeItsCommit: a worker stands still right before a commit for longer than its
// lease; another one finishes its jobs; then it wakes up and commits.
func TestZombieBeforeItsCommit(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing", "search"})
	s.Setup()
	s.Load.Publish(300, patience)
	zombie := s.StartStopper("before_commit", 1+s.Rand.IntN(5))
	faulttest.Until(t, patience, "the worker stands before its commit", zombie.Paused)
	asleep := time.Now()
	s.Start()
	faulttest.WaitRest(t, s.JS, "JOBS", "default", patience)
	// The lease began before the pause was seen, so the rest may come a little sooner than a whole one.
	faulttest.Until(t, patience, "the pause is longer than the lease", func() bool { return time.Since(asleep) > lease })
	zombie.Resume()
	zombie.WaitReady()
	slept := time.Since(asleep)
	s.Load.Publish(100, patience) // for both
	h := s.Judge(patience, history.History{Grace: slept})
	if repeated(h.Calls) == 0 {
		t.Error("no job was called for twice: the zombie held nothing")
	}
}

// TestZombieInItsCalls: the same with SIGSTOP while calls are under way, several times over.
func TestZombieInItsCalls(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
	s.Services[0].Answer(func(faulttest.Request) faulttest.Answer {
		return faulttest.Answer{Wait: 50 * time.Millisecond}
	})
	s.Setup()
	zombie := s.Start()
	s.Start()
	stop := s.Load.Start(200)
	var longest time.Duration
	for range 3 {
		faulttest.Progress(t, patience, "calls", s.Services[0].Count)
		zombie.Pause()
		asleep := time.Now()
		pause := lease + time.Duration(s.Rand.Int64N(int64(2*lease)))
		t.Logf("paused for %v", pause)
		faulttest.Until(t, patience, "the pause is over", func() bool { return time.Since(asleep) > pause })
		zombie.Resume()
		longest = max(longest, time.Since(asleep))
	}
	stop()
	s.Judge(patience, history.History{Grace: longest + 2*lease})
	if !zombie.Ready() {
		t.Error("the worker that was paused is not ready afterwards")
	}
}
