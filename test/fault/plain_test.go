//go:build fault && linux

package fault_test

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"rollcall/internal/faulttest"
	"rollcall/internal/history"
)

// TestPlainRequestsKilledInTheMiddle: services of the format plain get a request for each job. A
// worker is killed by SIGKILL while requests are under way, and around the commit; a second one
// finishes. Each job ends once, its key never changes, and where a success was committed nobody is
// asked again.
func TestPlainRequestsKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"", "before_commit", "after_commit", "between_acks"} {
		name := point
		if name == "" {
			name = "request under way"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const jobs = 300
			broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
			s := faulttest.NewScenario(t, program, broker.URL, []string{"mailer", "stock"})
			s.Env = s.Env.With(
				"ROLLCALL_SVC_MAILER_FORMAT", "plain", "ROLLCALL_SVC_MAILER_CONCURRENCY", "8",
				"ROLLCALL_SVC_STOCK_FORMAT", "plain", "ROLLCALL_SVC_STOCK_TRIES", "1",
			)
			s.Setup()
			s.Load.Publish(jobs, patience)
			keys := &keys{of: map[string]map[string]int{}}
			s.Services[1].Answer(keys.flaky)
			victim := killInTheMiddle(s, keys, point)
			victim.WaitExit(patience)
			if got := victim.KilledBy(); got != syscall.SIGKILL {
				t.Fatalf("the worker ended by %v, want SIGKILL", got)
			}
			s.Start()
			h := s.Judge(patience, history.History{})
			if len(h.DeadLetters) != 0 {
				t.Errorf("%d dead letters for services that were well in the end", len(h.DeadLetters))
			}
			again := repeated(s.Services[0].Calls()) // stock has every seventh job come back
			t.Logf("the mailer was called again for %d jobs", again)
			if point == "" && again == 0 {
				t.Error("no request was under way when the worker was killed")
			}
			keys.judge(t)
		})
	}
}

// killInTheMiddle starts a worker that dies at the point or, without one, while the mailer answers.
func killInTheMiddle(s *faulttest.Scenario, keys *keys, point string) *faulttest.Worker {
	nth := 1 + s.Rand.IntN(5)
	if point != "" {
		s.Services[0].Answer(keys.ok)
		return s.StartCrasher(point, nth)
	}
	die, at := make(chan struct{}), 10*nth
	s.Services[0].Answer(func(req faulttest.Request) faulttest.Answer {
		if req.Number == at {
			close(die)
		}
		a := keys.ok(req)
		a.Wait = 20 * time.Millisecond
		return a
	})
	victim := s.Start()
	<-die
	victim.Kill()
	return victim
}

// keys collects the idempotency keys that came with each job, with the latest attempt of each.
type keys struct {
	mu sync.Mutex
	of map[string]map[string]int
}

func (k *keys) note(req faulttest.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	job := req.Jobs[0]
	name := fmt.Sprintf("%q", job.UID+":"+req.Service)
	if k.of[name] == nil {
		k.of[name] = map[string]int{}
	}
	k.of[name][req.Key] = max(k.of[name][req.Key], job.Attempt)
}

func (k *keys) ok(req faulttest.Request) faulttest.Answer {
	k.note(req)
	return faulttest.Answer{}
}

// flaky is a service that is out of order for every seventh job at its first attempt.
func (k *keys) flaky(req faulttest.Request) faulttest.Answer {
	k.note(req)
	var n int
	if _, err := fmt.Sscanf(string(req.Jobs[0].Data), `{"n":%d}`, &n); err != nil {
		return faulttest.Answer{Status: 400}
	}
	if n%7 == 0 && req.Jobs[0].Attempt == 1 {
		return faulttest.Answer{Status: 500}
	}
	return faulttest.Answer{}
}

// judge wants one key for each job and service, also over several attempts.
func (k *keys) judge(t *testing.T) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	twice := 0
	for want, got := range k.of {
		if attempt, ok := got[want]; !ok || len(got) != 1 {
			t.Errorf("the idempotency keys %v, want %s alone", got, want)
		} else if attempt > 1 {
			twice++
		}
	}
	if twice == 0 {
		t.Error("no job had a second attempt")
	}
}
