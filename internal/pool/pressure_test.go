package pool_test

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/internal/jobs"
	"rollcall/internal/pool"
)

func TestPoolHoldsNoMoreThanItsSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, settings(), service{name: "a", answer: hang})
		r.push(deliveries(1, 100)...)
		time.Sleep(time.Second)
		synctest.Wait()
		if held := r.pool.Held(); held.Jobs != 4 {
			t.Errorf("%d jobs held by 2 slots of 2", held.Jobs)
		}
		r.cut()
		if err := <-r.ended; !errors.Is(err, pool.ErrDrainDeadline) {
			t.Errorf("run: %v", err)
		}
		if held := r.pool.Held(); held != (jobs.Room{}) {
			t.Errorf("%+v still held at the end", held)
		}
	})
}

func TestJobsAreTakenAheadForSlotsThatWillSoonBeFree(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		callTime time.Duration
		held     int
	}{
		{time.Millisecond, 12},     // 2 slots of 2, and two batches more for each
		{20 * time.Millisecond, 6}, // half of the slots will be free within the look-ahead
		{time.Second, 4},
	} {
		synctest.Test(t, func(t *testing.T) {
			var stuck atomic.Bool
			quick := after(tc.callTime, allOK)
			r := start(t, settings(), service{name: "a", answer: func(ctx context.Context, c *jobs.Call) jobs.CallResult {
				if stuck.Load() {
					return hang(ctx, c)
				}
				return quick(ctx, c)
			}})
			r.push(deliveries(1, 20)...)
			time.Sleep(time.Minute)
			stuck.Store(true)
			r.push(deliveries(21, 100)...)
			time.Sleep(time.Second)
			synctest.Wait()
			if held := r.pool.Held(); held.Jobs != tc.held {
				t.Errorf("calls of %v: %d jobs held by 2 slots of 2, want %d", tc.callTime, held.Jobs, tc.held)
			}
			r.cut()
			if err := <-r.ended; !errors.Is(err, pool.ErrDrainDeadline) {
				t.Errorf("run: %v", err)
			}
		})
	}
}

func TestASlotIsFreeWhileItsBatchWaitsForTheCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.BatchesInFlight = 1
		var calls atomic.Int32
		r := start(t, cfg, service{name: "a", answer: counting(&calls)})
		r.ledger.hold = make(chan struct{})
		r.push(deliveries(1, 2000)...)
		time.Sleep(time.Second)
		synctest.Wait()
		// 1000 jobs may wait for their commit; the slot and what it takes next come on top.
		if n := calls.Load(); n != 500 {
			t.Errorf("%d batches of two were called for while no commit came, want 500", n)
		}
		if held, most := r.pool.Held(), cfg.Capacity(); held.Jobs < 1000 || held.Jobs > most.Jobs || held.Bytes > most.Bytes {
			t.Errorf("%+v held, want 1000 jobs or more, within %+v", held, most)
		}
		close(r.ledger.hold)
		time.Sleep(time.Second)
		synctest.Wait()
		if n := calls.Load(); n != 1000 || r.pool.Held() != (jobs.Room{}) {
			t.Errorf("%d batches called for and %+v held after the commits, want 1000 and nothing", n, r.pool.Held())
		}
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
	})
}

func TestASlowDiskDoesNotFillTheMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.BatchBytes, cfg.BatchesInFlight = 100_000, 1
		var calls atomic.Int32
		r := start(t, cfg, service{name: "a", answer: counting(&calls)})
		r.ledger.hold = make(chan struct{})
		for seq := range uint64(50) {
			d := delivery(seq + 1)
			d.Data = bytes.Repeat([]byte{'x'}, 100_000)
			r.push(d)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		// Four times what the slot holds, and the batch that goes beyond it.
		if n := calls.Load(); n != 5 {
			t.Errorf("%d batches of 100 kB wait for their commit, want 5", n)
		}
		if held, most := r.pool.Held(), cfg.Capacity(); held.Bytes > most.Bytes {
			t.Errorf("%+v held, the most is %+v", held, most)
		}
		close(r.ledger.hold)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
	})
}

func TestALingeringBatchGathersWhileSlotsAreBusy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.BatchSize, cfg.BatchesInFlight = 10, 1
		r := start(t, cfg, service{name: "a", answer: after(time.Second, allOK)})
		for seq := range uint64(6) { // the first goes alone when its linger of 10 ms ends
			r.push(delivery(seq + 1))
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(3 * time.Second)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		var batches []*jobs.Batch
		for _, s := range r.ledger.settlements() {
			batches = append(batches, s.Batch)
		}
		if diff := cmp.Diff([]shape{{jobs.SealLinger, "", 1}, {jobs.SealLinger, "", 5}}, shapes(batches)); diff != "" {
			t.Errorf("batches (-want +got):\n%s", diff)
		}
	})
}

func TestNoLingerGathersOnlyWhileSlotsAreBusy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.BatchLinger, cfg.BatchSize, cfg.BatchesInFlight = 0, 10, 1
		r := start(t, cfg, service{name: "a", answer: after(time.Second, allOK)})
		r.push(delivery(1))
		synctest.Wait() // sealed at once: no further job is at hand
		for seq := uint64(2); seq <= 6; seq++ {
			r.push(delivery(seq))
			synctest.Wait()
		}
		time.Sleep(3 * time.Second)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		var batches []*jobs.Batch
		for _, s := range r.ledger.settlements() {
			batches = append(batches, s.Batch)
		}
		if diff := cmp.Diff([]shape{{jobs.SealIdle, "", 1}, {jobs.SealIdle, "", 5}}, shapes(batches)); diff != "" {
			t.Errorf("batches (-want +got):\n%s", diff)
		}
	})
}

// counting says ok to everything and counts the calls.
func counting(calls *atomic.Int32) func(context.Context, *jobs.Call) jobs.CallResult {
	return func(ctx context.Context, c *jobs.Call) jobs.CallResult {
		calls.Add(1)
		return allOK(ctx, c)
	}
}
