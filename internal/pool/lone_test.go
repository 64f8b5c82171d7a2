package pool_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/internal/jobs"
)

// TestSuspectsRunWithNothingElseInTheProcess: a job that kills its process takes everything
// with it that is under way. If suspects ran side by side, or beside other batches, the
// innocent ones would collect lone runs without an end and be failed as crash loops.
func TestSuspectsRunWithNothingElseInTheProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.BatchesInFlight = 4
		var mu sync.Mutex
		calling, alone, most := 0, 0, 0
		r := start(t, cfg, service{name: "a", answer: func(ctx context.Context, c *jobs.Call) jobs.CallResult {
			lone := c.Jobs[0].Delivered > 1
			mu.Lock()
			calling++
			most = max(most, calling)
			if lone {
				alone++
			}
			if alone > 0 && calling > 1 {
				t.Errorf("%d calls under way beside a suspect", calling)
			}
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			calling--
			if lone {
				alone--
			}
			return allOK(ctx, c)
		}})
		all := deliveries(1, 24)
		for _, i := range []int{3, 4, 12, 13, 14} {
			all[i].Delivered = 3
		}
		r.push(all...)
		time.Sleep(time.Minute)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		finished := 0
		for _, s := range r.ledger.settlements() {
			finished += len(s.Batch.Jobs)
		}
		if finished != 24 || most < 2 {
			t.Errorf("%d of 24 jobs finished, at most %d calls at once; want all, and several where nobody is suspect", finished, most)
		}
	})
}

func TestSuspectRunsAloneAndItsMatesGoFree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.BatchSize = 3
		r := start(t, cfg, service{name: "a", answer: allOK})
		suspect := delivery(2)
		suspect.Delivered = 3
		mate := delivery(3)
		mate.Delivered = 2
		r.push(delivery(1), suspect, mate)
		time.Sleep(time.Second)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		for _, s := range r.ledger.settlements() {
			alone := len(s.Batch.Jobs) == 1 && s.Batch.Jobs[0].Ref.Seq == 2
			if (s.Batch.Seal == jobs.SealLone) != alone {
				t.Errorf("batch of %d sealed by %s", len(s.Batch.Jobs), s.Batch.Seal)
			}
		}
		if lines := r.journal.all(); !slices.Contains(lines, "mark 2") || slices.Index(lines, "mark 2") > slices.Index(lines, "commit 1") {
			t.Errorf("the lone run was not written down first: %v", lines)
		}
	})
}

func TestCrashLoopEndsFailed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, settings(), service{name: "a", answer: func(context.Context, *jobs.Call) jobs.CallResult {
			t.Error("a crash loop was called again")
			return jobs.CallResult{}
		}})
		r.ledger.set(1, jobs.Record{Lone: 3})
		d := delivery(1)
		d.Delivered = 6
		r.push(d)
		time.Sleep(time.Second)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		got := r.ledger.settlements()[0].Rulings[0]
		if got.Outcome != jobs.Failed || got.Reason != jobs.ReasonCrashLoop {
			t.Errorf("ruling %+v", got)
		}
		if r.journal.count("dead 1") != 1 {
			t.Errorf("no dead letter: %v", r.journal.all())
		}
	})
}
