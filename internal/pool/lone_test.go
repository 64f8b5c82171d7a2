package pool_test

import (
	"context"
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
