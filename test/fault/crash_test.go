//go:build fault && linux

package fault_test

import (
	"fmt"
	"syscall"
	"testing"

	"rollcall/internal/faulttest"
	"rollcall/internal/history"
)

// TestKilledAtEveryPoint: a worker is killed by SIGKILL at each point of a batch's life, and
// a second one finishes its jobs.
func TestKilledAtEveryPoint(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"before_call", "first_reply", "before_commit", "after_commit", "between_acks"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
			s := faulttest.NewScenario(t, program, broker.URL, []string{"billing", "search"})
			s.Setup()
			nth := 1 + s.Rand.IntN(5)
			t.Logf("killed at passage %d", nth)
			s.Load.Publish(300, patience)
			victim := s.StartCrasher(point, nth)
			victim.WaitExit(patience)
			if got := victim.KilledBy(); got != syscall.SIGKILL {
				t.Fatalf("the worker ended by %v, want SIGKILL at %s", got, point)
			}
			s.Start()
			h := s.Judge(patience, history.History{})
			if len(h.DeadLetters) != 0 {
				t.Errorf("%d dead letters for services that said ok", len(h.DeadLetters))
			}
			t.Logf("%d jobs were called for again", repeated(h.Calls))
		})
	}
}

// repeated counts jobs that a service was called for more than once.
func repeated(calls []history.Call) int {
	seen := map[string]int{}
	for _, c := range calls {
		seen[fmt.Sprint(c.Service, " ", c.UID)]++
	}
	n := 0
	for _, count := range seen {
		if count > 1 {
			n++
		}
	}
	return n
}
