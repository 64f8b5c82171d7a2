package pool_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/pool"
)

func TestSettingsHaveUpperBounds(t *testing.T) {
	t.Parallel()
	sound := settings()
	if err := sound.Validate(); err != nil {
		t.Fatal(err)
	}
	for variable, change := range map[string]func(*pool.Config){
		"ROLLCALL_BATCH_SIZE":        func(c *pool.Config) { c.BatchSize = 901 },
		"ROLLCALL_BATCH_BYTES":       func(c *pool.Config) { c.BatchBytes = 2_000_000_000 * jobs.GiB },
		"ROLLCALL_BATCH_LINGER":      func(c *pool.Config) { c.BatchLinger = time.Hour + 1 },
		"ROLLCALL_BATCHES_IN_FLIGHT": func(c *pool.Config) { c.BatchesInFlight = 1 << 40 },
		"ROLLCALL_MAX_ATTEMPTS":      func(c *pool.Config) { c.MaxAttempts = 1 << 40 },
		"ROLLCALL_JOB_MAX_AGE":       func(c *pool.Config) { c.JobMaxAge = 1<<63 - 1 },
		"ROLLCALL_RETRY_MAX":         func(c *pool.Config) { c.RetryMax = 1<<63 - 1 },
	} {
		cfg := settings()
		change(&cfg)
		err := cfg.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), variable+" is ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one fault that names it", variable, err)
		}
	}
}

// TestABatchIsSealedBeforeItsCommitNeedsTooManyMessages: each job may need a page, and each set a tally
// and an end.
func TestABatchIsSealedBeforeItsCommitNeedsTooManyMessages(t *testing.T) {
	t.Parallel()
	limits := pool.Limits{Jobs: 900, Bytes: 1 << 20, Weight: fixed(1 << 20), Messages: 1000, Linger: time.Second}
	b := pool.NewBatcher(limits, pool.Key{}, func(members []*jobs.Job, _ string, why jobs.Seal, _ time.Time) *jobs.Batch {
		return &jobs.Batch{Jobs: members, Seal: why}
	})
	var sealed []*jobs.Batch
	for n := range 900 {
		j := &jobs.Job{Set: fmt.Sprintf("set-%d", n)}
		sealed = append(sealed, b.Add(j, time.Now())...)
	}
	sealed = append(sealed, b.Drain(time.Now())...)
	total := 0
	for _, batch := range sealed {
		total += len(batch.Jobs)
		if messages := 3*len(batch.Jobs) + 1; messages > 1000 {
			t.Errorf("a batch of %d jobs of as many sets, whose commit may need %d messages", len(batch.Jobs), messages)
		}
	}
	if total != 900 {
		t.Errorf("%d of 900 jobs", total)
	}
}

// TestALongLingerDoesNotStopAPoolThatIsFull: batches of many keys fill what a replica holds, and none of
// them is full.
func TestALongLingerDoesNotStopAPoolThatIsFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.BatchLinger, cfg.BatchKey = time.Hour, mustKey(t, "subject")
		r := start(t, cfg, service{name: "a", answer: allOK})
		all := deliveries(1, 50)
		for i := range all {
			all[i].Subject = fmt.Sprintf("jobs.%d", i)
		}
		r.push(all...)
		time.Sleep(time.Minute)
		// What may linger is what the slots hold, two batches of two, and twice as much that was
		// taken ahead of them.
		if done, lingers := r.finished(), 3*cfg.BatchSize*cfg.BatchesInFlight; done < 50-lingers {
			t.Errorf("%d of 50 jobs of as many keys are done after a minute, want all but %d", done, lingers)
		}
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
	})
}

// TestABatchThatOthersFinishedIsNotCalledUncommitted: its jobs do not come back.
func TestABatchThatOthersFinishedIsNotCalledUncommitted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, settings(), service{name: "a", answer: after(time.Second, allOK)})
		r.push(deliveries(1, 2)...)
		time.Sleep(time.Millisecond)
		r.ledger.set(1, jobs.Record{Final: true})
		r.ledger.set(2, jobs.Record{Final: true})
		time.Sleep(time.Minute)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		if n := r.counter.result(jobs.BatchSuperseded); n != 1 || r.counter.result(jobs.BatchAborted) != 0 {
			t.Errorf("%d batches were superseded, %d aborted", n, r.counter.result(jobs.BatchAborted))
		}
	})
}

// TestAPanicAroundACallIsItsFailure: not only in the service, also in what observes it. The call is
// over then, for those too that look for cancelled jobs in it.
func TestAPanicAroundACallIsItsFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := prepare(t)
		r.counter.panics = "a"
		r.start(t, settings(), service{name: "a", answer: allOK}, service{name: "b", answer: after(time.Second, allOK)})
		r.push(deliveries(1, 2)...)
		time.Sleep(500 * time.Millisecond)
		r.counter.mu.Lock()
		if r.counter.panicked == nil || r.counter.panicked.Err() == nil {
			t.Error("the call that panicked is still watched")
		}
		r.counter.mu.Unlock()
		time.Sleep(time.Second)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		s := r.ledger.settlements()
		if len(s) != 1 || s[0].Rulings[0].Outcome != jobs.Retrying || !strings.Contains(s[0].Rulings[0].Reason, "panicked") {
			t.Fatalf("settlements %+v", s)
		}
	})
}

// TestDataThatFitsNoEventIsDropped: it would only take memory until the commit.
func TestDataThatFitsNoEventIsDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, settings(), service{name: "a", answer: func(ctx context.Context, c *jobs.Call) jobs.CallResult {
			result := allOK(ctx, c)
			for i := range result.Replies {
				result.Replies[i].Data = []byte(`"` + strings.Repeat("x", 1<<20) + `"`)
			}
			return result
		}})
		r.ledger.hold = make(chan struct{})
		r.push(deliveries(1, 2)...)
		time.Sleep(time.Second)
		if held := r.pool.Held(); held.Bytes > 10_000 {
			t.Errorf("%d bytes are held for two small jobs", held.Bytes)
		}
		close(r.ledger.hold)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		e, err := jobs.DecodeEvent(r.ledger.settlements()[0].Event)
		if err != nil || !e.Data.Truncated || e.Data.Counts.Succeeded != 2 {
			t.Errorf("event %+v: %v", e.Data, err)
		}
	})
}

// TestResultsStandInEventsUnlessSomebodyWantsNone: reasons and statuses do in either case.
func TestResultsStandInEventsUnlessSomebodyWantsNone(t *testing.T) {
	t.Parallel()
	for results, want := range map[string]int{pool.ResultsEvent: 2, pool.ResultsNone: 0} {
		synctest.Test(t, func(t *testing.T) {
			cfg := settings()
			cfg.BatchSize, cfg.Results = 2, results
			r := prepare(t)
			r.start(t, cfg, service{name: "a", answer: func(ctx context.Context, c *jobs.Call) jobs.CallResult {
				result := allOK(ctx, c)
				for i := range result.Replies {
					result.Replies[i].Data = []byte(`{"code":7}`)
				}
				return result
			}})
			r.push(deliveries(1, 2)...)
			time.Sleep(time.Second)
			e, err := jobs.DecodeEvent(r.ledger.settlements()[0].Event)
			if err != nil {
				t.Fatal(err)
			}
			got := 0
			for _, j := range e.Data.Jobs {
				got += len(j.Data)
			}
			if got != want || e.Data.Truncated || e.Data.Jobs[0].Services["a"] != "ok" {
				t.Errorf("ROLLCALL_RESULTS=%s: data of %d jobs, want %d: %+v", results, got, want, e.Data)
			}
			if err := r.stop(); err != nil {
				t.Fatalf("run: %v", err)
			}
		})
	}
}
