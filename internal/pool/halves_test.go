package pool_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/internal/jobs"
)

// poisoned answers 500 to every call that holds one of some jobs.
func poisoned(poison func(seq uint64) bool) func(context.Context, *jobs.Call) jobs.CallResult {
	return func(ctx context.Context, c *jobs.Call) jobs.CallResult {
		if slices.ContainsFunc(c.Jobs, func(j *jobs.Job) bool { return poison(j.Ref.Seq) }) {
			return jobs.CallResult{Tries: 1, Failure: &jobs.Failure{Reason: jobs.ReasonHTTP5xx, Code: 500, Err: errors.New("internal server error")}}
		}
		return allOK(ctx, c)
	}
}

// TestOnePoisonJobInFiftyCostsItsMatesLogAttempts: a job that makes its whole call answer 500 must
// not take the jobs along that happen to share its calls.
func TestOnePoisonJobInFiftyCostsItsMatesLogAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n, every = 1000, 50
		poison := func(seq uint64) bool { return seq%every == 0 }
		cfg := settings()
		cfg.BatchSize, cfg.MaxAttempts, cfg.RetryMin, cfg.RetryMax = 96, 20, 100*time.Millisecond, time.Second
		r := prepare(t)
		r.redeliver()
		r.start(t, cfg, service{name: "a", answer: poisoned(poison)})
		r.push(deliveries(1, n)...)
		for began := time.Now(); r.finished() < n && time.Since(began) < time.Hour; {
			time.Sleep(time.Second)
		}
		for _, s := range r.ledger.settlements() {
			for i := range s.Rulings {
				ruling, seq := &s.Rulings[i], s.Batch.Jobs[i].Ref.Seq
				if ruling.Outcome == jobs.Failed != poison(seq) && ruling.Outcome.Final() {
					t.Errorf("job %d: %s after %d attempts: %s", seq, ruling.Outcome, ruling.Attempt, ruling.Reason)
				}
				if !poison(seq) && ruling.Attempt > 8 {
					t.Errorf("job %d needs %d attempts; halves of 96 are alone after 7", seq, ruling.Attempt)
				}
			}
		}
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
	})
}

// TestJobsThatShareAnIDComeBackEachInACallOfItsOwn: and with them nobody else.
func TestJobsThatShareAnIDComeBackEachInACallOfItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.BatchSize = 6
		var calls []int
		r := prepare(t)
		r.redeliver()
		r.start(t, cfg, service{name: "a", answer: func(ctx context.Context, c *jobs.Call) jobs.CallResult {
			calls = append(calls, len(c.Jobs))
			result := allOK(ctx, c)
			for i, j := range c.Jobs {
				if len(c.Jobs) > 1 && j.Ref.Seq <= 2 {
					result.Replies[i] = jobs.Reply{Status: jobs.StatusRetry, Alone: true}
				}
			}
			return result
		}})
		r.push(deliveries(1, 6)...)
		time.Sleep(time.Minute)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		if n := r.finished(); n != 6 || !slices.Equal(calls, []int{6, 1, 1}) {
			t.Errorf("%d jobs are done, calls of %v jobs; want 6, and calls of 6, 1 and 1", n, calls)
		}
	})
}

// TestAPoisonJobDoesNotKeepItsMatesBehindAnOpenBreaker: trial calls burn no attempt, but they too come
// back in halves, or the mates of a poison job would wait for it for ever.
func TestAPoisonJobDoesNotKeepItsMatesBehindAnOpenBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 64
		cfg := settings()
		cfg.BatchSize, cfg.RetryMin, cfg.RetryMax = n, 100*time.Millisecond, time.Second
		trial := poisoned(func(seq uint64) bool { return seq == 7 })
		r := prepare(t)
		r.redeliver()
		r.start(t, cfg, service{name: "a", answer: func(ctx context.Context, c *jobs.Call) jobs.CallResult {
			result := trial(ctx, c)
			if result.Failure != nil {
				result.Failure.Free = true
			}
			return result
		}})
		r.push(deliveries(1, n)...)
		time.Sleep(time.Minute)
		if done := r.finished(); done != n-1 {
			t.Errorf("%d of the %d others are done", done, n-1)
		}
		r.cut()
		<-r.ended
	})
}

// TestACallHoldsNoMoreJobsThanItsRecordsAllow: whatever the size of the batch that they came back in.
func TestACallHoldsNoMoreJobsThanItsRecordsAllow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.BatchSize = 20
		sizes := make(chan int, 20)
		r := prepare(t)
		for seq := uint64(1); seq <= 16; seq++ {
			r.ledger.set(seq, jobs.Record{Attempts: 1, Seen: 1, Since: 1, Group: 6})
		}
		r.start(t, cfg, service{name: "a", answer: func(ctx context.Context, c *jobs.Call) jobs.CallResult {
			sizes <- len(c.Jobs)
			return allOK(ctx, c)
		}})
		all := deliveries(1, 20) // four of them were never called for
		for i := range all[:16] {
			all[i].Delivered = 2
		}
		r.push(all...)
		time.Sleep(time.Second)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		close(sizes)
		var got []int
		for n := range sizes {
			got = append(got, n)
		}
		slices.Sort(got)
		if n := len(r.ledger.settlements()); n != 1 || !slices.Equal(got, []int{4, 4, 6, 6}) {
			t.Errorf("calls of %v jobs in %d batches, want 4, 4, 6 and 6 in one", got, n)
		}
	})
}
