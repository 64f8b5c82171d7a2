//go:build fault && linux

package fault_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"rollcall/internal/faulttest"
	"rollcall/internal/history"
)

// TestPoisonJobs: two jobs kill every worker that calls a service for them. They are isolated,
// end as failed with the reason crash_loop and a dead letter, and their batch mates finish.
func TestPoisonJobs(t *testing.T) {
	t.Parallel()
	const marker = "poison"
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
	s.Setup()
	s.Load.Body(func(n int) []byte {
		if n == 20 || n == 150 {
			return fmt.Appendf(nil, `{"n":%d,"kind":"%s"}`, n, marker)
		}
		return fmt.Appendf(nil, `{"n":%d}`, n)
	})
	var worker atomic.Pointer[faulttest.Worker]
	s.Services[0].Answer(func(r faulttest.Request) faulttest.Answer {
		for _, job := range r.Jobs {
			if bytes.Contains(job.Data, []byte(marker)) {
				// What a job does to the process that handles it happens from outside here:
				// the moment and the signal are the same.
				worker.Load().Signal(syscall.SIGKILL)
				return faulttest.Answer{Hang: true}
			}
		}
		return faulttest.Answer{}
	})
	s.Load.Publish(200, patience)
	crashes := -1
	rest := time.Now().Add(3 * patience)
	for time.Now().Before(rest) && !s.AtRest() {
		if w := worker.Load(); w == nil || !w.Running() {
			crashes++
			worker.Store(s.Begin())
		}
		faulttest.Tick(t)
	}
	h := s.Judge(patience, history.History{})
	t.Logf("%d workers were killed", crashes)
	loops := map[string]bool{}
	for _, e := range h.Events {
		for _, job := range e.Data.Jobs {
			if job.Outcome != "retrying" && job.Outcome != "succeeded" {
				loops[job.UID] = true
				if job.Outcome != "failed" || job.Reason != "crash_loop" {
					t.Errorf("job %s ended %s for %q, want failed for crash_loop", job.UID, job.Outcome, job.Reason)
				}
			}
		}
	}
	if len(loops) != 2 || len(h.DeadLetters) < 2 {
		t.Errorf("%d jobs ended badly with %d dead letters, want the two that kill", len(loops), len(h.DeadLetters))
	}
	// Two deliveries with all others, then for each of the two groups of 48, 24, 12, 6 and 3, and three
	// runs alone.
	if crashes > 2+2*8 {
		t.Errorf("it took %d killed workers to isolate two jobs", crashes)
	}
}

// TestFiftyThousandWaitingJobs: everything hangs and the queue is long. A worker holds what
// its slots can hold and no more.
func TestFiftyThousandWaitingJobs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		jobs  int
		bytes int
		bound int64
	}{
		{"50,000 small jobs", 50_000, 200, 80 << 20},
		{"500 jobs of 512 KiB", 500, 512 << 10, 200 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
			s := faulttest.NewScenario(t, program, broker.URL, []string{"billing", "search", "mail"})
			for _, service := range s.Services {
				service.Hang()
			}
			// The settings as they are by default, under which the bound is promised.
			for _, name := range []string{"ROLLCALL_BATCH_SIZE", "ROLLCALL_BATCHES_IN_FLIGHT", "ROLLCALL_ACK_WAIT"} {
				delete(s.Env, name)
			}
			s.Env = s.Env.With("ROLLCALL_SVC_BILLING_TIMEOUT", "2s", "ROLLCALL_SVC_SEARCH_TIMEOUT", "2s", "ROLLCALL_SVC_MAIL_TIMEOUT", "2s", "ROLLCALL_DRAIN_TIMEOUT", "1s")
			s.Setup()
			fill := bytes.Repeat([]byte("x"), c.bytes)
			s.Load.Body(func(n int) []byte { return fmt.Appendf(nil, `{"n":%d,"fill":"%s"}`, n, fill) })
			s.Load.Publish(c.jobs, 3*patience)
			w := s.Start()
			// Time-outs, retries and naks of whole batches, again and again.
			faulttest.Until(t, 2*patience, "calls were given up and repeated", func() bool { return s.Services[0].Count() >= 20 })
			peak := w.PeakRSS()
			t.Logf("at most %d MiB resident", peak>>20)
			if peak > c.bound {
				t.Errorf("the worker had %d bytes resident, want at most %d", peak, c.bound)
			}
			w.Signal(syscall.SIGTERM)
			if code := w.WaitExit(patience); code != 3 && code != 0 {
				t.Errorf("exit code %d", code)
			}
			if strings.Contains(w.Log(), "panic") {
				t.Error("a panic in the log")
			}
		})
	}
}
