package pool_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/internal/jobs"
)

// heldBack is what a service says whose breaker is open.
func heldBack(context.Context, *jobs.Call) jobs.CallResult {
	return jobs.CallResult{Failure: &jobs.Failure{Reason: jobs.ReasonBreakerOpen, Free: true, Err: errors.New("calls are held back")}}
}

// unreachable is what a service says that refuses connections.
func unreachable(context.Context, *jobs.Call) jobs.CallResult {
	return jobs.CallResult{Tries: 3, Failure: &jobs.Failure{Reason: jobs.ReasonRefused, Free: true, Err: errors.New("connection refused")}}
}

// TestAnOutageCostsNoStorageNoAttemptAndNoJob: an hour with a service that cannot be reached.
func TestAnOutageCostsNoStorageNoAttemptAndNoJob(t *testing.T) {
	t.Parallel()
	for name, outage := range map[string]func(context.Context, *jobs.Call) jobs.CallResult{"breaker open": heldBack, "refused": unreachable} {
		synctest.Test(t, func(t *testing.T) {
			const n = 40
			cfg := settings()
			cfg.BatchSize, cfg.MaxAttempts, cfg.RetryMax = 10, 1, 5*time.Minute
			until := time.Now().Add(time.Hour)
			r := prepare(t)
			r.redeliver()
			r.start(t, cfg, service{name: "a", answer: allOK}, service{name: "b", answer: func(ctx context.Context, c *jobs.Call) jobs.CallResult {
				if time.Now().Before(until) {
					return outage(ctx, c)
				}
				return allOK(ctx, c)
			}})
			r.push(deliveries(1, n)...)
			time.Sleep(time.Minute)
			events := len(r.ledger.settlements()) // a succeeded, once for each job
			time.Sleep(time.Hour - 2*time.Minute)
			if more := len(r.ledger.settlements()) - events; more != 0 {
				t.Errorf("%s: %d events were stored while the outage lasted", name, more)
			}
			if marks := len(r.journal.with("mark")); marks > 7*n {
				t.Errorf("%s: %d records were written for %d jobs", name, marks, n)
			}
			if r.counter.of(jobs.LoneRuns) != 0 || r.counter.result(jobs.BatchWaiting) == 0 {
				t.Errorf("%s: %d groups of suspects, %d batches waited", name, r.counter.of(jobs.LoneRuns), r.counter.result(jobs.BatchWaiting))
			}
			time.Sleep(10 * time.Minute)
			if done := r.finished(); done != n {
				t.Errorf("%s: %d of %d jobs are done after the outage", name, done, n)
			}
			for _, s := range r.ledger.settlements() {
				for i := range s.Rulings {
					if ruling := &s.Rulings[i]; ruling.Outcome != jobs.Retrying && ruling.Outcome != jobs.Succeeded {
						t.Errorf("%s: ruling %+v", name, ruling)
					}
				}
			}
			if err := r.stop(); err != nil {
				t.Fatalf("run: %v", err)
			}
		})
	}
}

// TestWhatWaitsForAServiceBacksOffByItsOwnTime: twenty jobs that are refused for a minute must not
// come back every second.
func TestWhatWaitsForAServiceBacksOffByItsOwnTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		r := prepare(t)
		r.redeliver()
		r.start(t, cfg, service{name: "a", answer: heldBack})
		r.push(deliveries(1, 20)...)
		time.Sleep(30 * time.Minute)
		r.mu.Lock()
		early, late := time.Duration(0), time.Duration(0)
		for _, delays := range r.delays {
			early += delays[0]
			late += delays[len(delays)-1]
		}
		r.mu.Unlock()
		if late < 8*early {
			t.Errorf("the first delays are %s in all, the last ones %s", early, late)
		}
		r.cut()
		<-r.ended
	})
}

// TestOneJobThatWasAnsweredHasAnEvent: only a batch of which nothing was learnt has none.
func TestOneJobThatWasAnsweredHasAnEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, settings(), service{name: "a", answer: func(_ context.Context, c *jobs.Call) jobs.CallResult {
			replies := make([]jobs.Reply, len(c.Jobs))
			for i := range replies {
				replies[i].Free = i > 0
			}
			return jobs.CallResult{Replies: replies, Tries: 1}
		}})
		r.push(deliveries(1, 2)...)
		time.Sleep(time.Second)
		s := r.ledger.settlements()
		if len(s) != 1 || s[0].Rulings[0].Attempt != 1 || s[0].Rulings[1].Attempt != 0 {
			t.Errorf("settlements %+v, want one, with an attempt for the first job alone", s)
		}
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
	})
}
