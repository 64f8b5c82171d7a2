package pool_test

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/internal/jobs"
)

func TestLeaseIsExtendedWhileHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.BatchLinger = time.Minute
		r := start(t, cfg, service{name: "a", answer: after(time.Minute, allOK)})
		r.push(deliveries(1, 3)...) // one batch in flight, one job in an open batch
		time.Sleep(25 * time.Second)
		synctest.Wait()
		if r.journal.count("extend 1") != 2 || r.journal.count("extend 3") != 2 {
			t.Errorf("leases of 30 s after 25 s: %v", r.journal.all())
		}
		r.cut()
		<-r.ended
	})
}

func TestLeaseOfWhatAConflictLeavesIsExtended(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, settings(), service{name: "a", answer: allOK})
		r.ledger.set(1, jobs.Record{Final: true}) // another replica was faster
		r.ledger.holdRest = make(chan struct{})   // and then the broker is slow
		r.push(deliveries(1, 2)...)
		time.Sleep(25 * time.Second)
		again := delivery(2)
		again.Delivered = 2
		r.push(again)
		synctest.Wait()
		if n := r.journal.count("extend 2"); n != 2 {
			t.Errorf("the lease of 30 s was extended %d times in 25 s, want 2: the job is held", n)
		}
		if n := r.counter.of(jobs.DuplicateHeld); n != 1 {
			t.Errorf("%d deliveries of a held job were dropped, want 1", n)
		}
		close(r.ledger.holdRest)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		if n := len(r.ledger.settlements()); n != 1 {
			t.Errorf("%d commits, want one for the rest", n)
		}
	})
}

// TestNoLeaseIsExtendedAfterANak: the extension would undo the delay of the nak.
func TestNoLeaseIsExtendedAfterANak(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := prepare(t)
		r.ledger.hold = make(chan struct{})
		var once sync.Once
		r.extending = func() {
			once.Do(func() { close(r.ledger.hold) })
			for n := 0; n < 1<<16 && len(r.journal.with("nak")) == 0; n++ { // time for the commit and its naks
				runtime.Gosched()
			}
		}
		r.start(t, settings(), service{name: "a", answer: func(_ context.Context, c *jobs.Call) jobs.CallResult {
			return jobs.CallResult{Replies: slices.Repeat([]jobs.Reply{{Status: jobs.StatusRetry}}, len(c.Jobs)), Tries: 1}
		}})
		r.push(deliveries(1, 2)...)
		time.Sleep(lease/3 + time.Second)
		synctest.Wait()
		lines := r.journal.all()
		for _, seq := range []string{"1", "2"} {
			extended, nak := slices.Index(lines, "extend "+seq), slices.Index(lines, "nak "+seq)
			if extended < 0 || nak < extended || slices.Contains(lines[nak:], "extend "+seq) {
				t.Errorf("job %s is to be extended and then nak'd: %v", seq, lines)
			}
		}
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
	})
}

func TestLostLeaseForgetsTheBatchWithoutAnAck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, settings(), service{name: "a", answer: allOK})
		r.ledger.hold = make(chan struct{})
		r.push(deliveries(1, 2)...)
		r.setDown(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		if lines := r.journal.all(); len(lines) != 0 {
			t.Errorf("settled without a lease: %v", lines)
		}
		if r.counter.of(jobs.LeaseLost) != 2 || r.pool.Held().Jobs != 0 {
			t.Errorf("%d leases lost, %d jobs held", r.counter.of(jobs.LeaseLost), r.pool.Held().Jobs)
		}
		close(r.ledger.hold)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
	})
}

// TestAProcessThatWasStoppedLosesItsLeases: while it stood still, the broker gave its jobs to
// others. That it can send again when it wakes up proves nothing.
func TestAProcessThatWasStoppedLosesItsLeases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		called := &journal{}
		r := start(t, settings(), service{name: "a", answer: func(ctx context.Context, c *jobs.Call) jobs.CallResult {
			called.add("call %d", c.Jobs[0].Ref.Seq)
			return allOK(ctx, c)
		}})
		r.push(deliveries(1, 2)...)
		time.Sleep(time.Second)
		stopped := deliveries(3, 4)
		for i := range stopped { // received right before the process stood still for 80 s
			stopped[i].Received = time.Now().Add(-80 * time.Second)
		}
		r.keepReceived()
		r.push(stopped...)
		time.Sleep(time.Second)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		if got := called.all(); len(got) != 1 || r.counter.of(jobs.LeaseLost) != 2 {
			t.Errorf("calls %v, %d leases lost; want a call for the first two jobs only", got, r.counter.of(jobs.LeaseLost))
		}
	})
}

func TestABatchMayLingerLongerThanALeaseLasts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.BatchSize, cfg.BatchLinger = 10, time.Hour
		r := start(t, cfg, service{name: "a", answer: allOK})
		r.push(deliveries(1, 3)...)
		time.Sleep(time.Hour - time.Second)
		if n := r.journal.count("extend 1"); n != 359 || len(r.ledger.settlements()) != 0 {
			t.Errorf("a lease of 30 s was extended %d times in an hour, %d commits", n, len(r.ledger.settlements()))
		}
		time.Sleep(2 * time.Second)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		if s := r.ledger.settlements(); len(s) != 1 || s[0].Batch.Seal != jobs.SealLinger || len(s[0].Batch.Jobs) != 3 {
			t.Errorf("%d commits", len(s))
		}
	})
}
