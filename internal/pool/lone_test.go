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

// suspectsOf are deliveries of jobs that ended twice without a word.
func suspectsOf(from, to uint64) []jobs.Delivery {
	all := deliveries(from, to)
	for i := range all {
		all[i].Delivered = 3
	}
	return all
}

// TestSuspectsAreCalledInOneGroupBesideOrdinaryWork: after two kills of a replica everything it
// held is suspect. One by one, with all else waiting, that would stop the pool for minutes.
func TestSuspectsAreCalledInOneGroupBesideOrdinaryWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.BatchSize, cfg.BatchesInFlight = 20, 4
		var mu sync.Mutex
		groups, ordinary, beside := 0, 0, false
		r := start(t, cfg, service{name: "a", answer: func(ctx context.Context, c *jobs.Call) jobs.CallResult {
			kind := &ordinary
			if c.Jobs[0].Delivered > 1 {
				kind = &groups
			}
			mu.Lock()
			*kind++
			if groups > 1 {
				t.Errorf("%d groups of suspects are called for at once", groups)
			}
			beside = beside || groups > 0 && ordinary > 0
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			*kind--
			return allOK(ctx, c)
		}})
		began := time.Now()
		r.push(suspectsOf(1, 60)...)
		r.push(deliveries(61, 400)...)
		for r.finished() < 400 && time.Since(began) < time.Minute {
			time.Sleep(100 * time.Millisecond)
		}
		// Six groups of ten, one after the other, and 17 batches on the three other slots.
		if took := time.Since(began); took > 10*time.Second || !beside {
			t.Errorf("60 suspects and 340 others took %s, beside each other: %v", took, beside)
		}
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
	})
}

// TestASuspectGroupIsHalvedAtEachCrash: what is written down before a call says how large the next
// group may be, and counts only the runs alone.
func TestASuspectGroupIsHalvedAtEachCrash(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.BatchSize, cfg.BatchesInFlight = 20, 1
		began := map[uint64]jobs.Record{}
		var r *rig
		svc := service{name: "a", answer: func(ctx context.Context, c *jobs.Call) jobs.CallResult {
			for _, j := range c.Jobs {
				began[j.Ref.Seq] = r.ledger.record(j.Ref.Seq)
			}
			return allOK(ctx, c)
		}}
		r = prepare(t)
		r.ledger.set(11, jobs.Record{Group: 5})
		r.ledger.set(12, jobs.Record{Group: 1})
		r.ledger.set(13, jobs.Record{Group: 1, Lone: 1})
		r.start(t, cfg, svc)
		r.push(suspectsOf(1, 13)...)
		time.Sleep(time.Second)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		for seq, want := range map[uint64]jobs.Record{1: {Group: 5}, 11: {Group: 1, Lone: 1}, 12: {Group: 1, Lone: 1}, 13: {Group: 1, Lone: 2}} {
			if got := began[seq]; got.Group != want.Group || got.Lone != want.Lone {
				t.Errorf("job %d was called for with the record %+v, want %+v", seq, got, want)
			}
		}
		for _, s := range r.ledger.settlements() {
			if n := len(s.Batch.Jobs); s.Batch.Seal != jobs.SealLone || n != 10 && n != 1 {
				t.Errorf("a group of %d, sealed by %s", n, s.Batch.Seal)
			}
		}
	})
}

// TestAJobThatWasAloneBeforeRunsWithNothingElseInTheProcess: a job that ended without a word while
// it was alone in its group is about to be blamed. From then on nothing beside it may crash.
func TestAJobThatWasAloneBeforeRunsWithNothingElseInTheProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.BatchesInFlight = 4
		var mu sync.Mutex
		calling, alone, most := 0, 0, 0
		r := prepare(t)
		for _, seq := range []uint64{4, 5, 13, 14, 15} {
			r.ledger.set(seq, jobs.Record{Group: 1, Lone: 1})
		}
		r.start(t, cfg, service{name: "a", answer: func(ctx context.Context, c *jobs.Call) jobs.CallResult {
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
		if n := r.finished(); n != 24 || most < 2 {
			t.Errorf("%d of 24 jobs finished, at most %d calls at once; want all, and several where nobody is suspect", n, most)
		}
	})
}

func TestASuspectGroupIsWrittenDownFirstAndFinalJobsLeaveIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.BatchSize = 8
		r := start(t, cfg, service{name: "a", answer: allOK})
		r.push(suspectsOf(1, 3)...)
		r.ledger.afterLoad(func() { r.ledger.set(2, jobs.Record{Final: true}) }) // another replica is faster
		time.Sleep(time.Second)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		want := []string{"mark 1", "mark 3", "ack 2", "commit 2", "ack 1", "ack 3"}
		if lines := r.journal.all(); !slices.Equal(lines, want) {
			t.Errorf("journal %v, want %v", lines, want)
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

// TestEndsThatTheProcessSeesAreNoCrashes: a drain that is cut at its deadline, five times in a row.
func TestEndsThatTheProcessSeesAreNoCrashes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := prepare(t)
		for n := 1; n <= 5; n++ {
			r = r.again(t, settings(), service{name: "a", answer: hang})
			for _, d := range deliveries(1, 7) { // four are called for, three only buffered
				d.Delivered = n
				r.push(d)
			}
			time.Sleep(time.Second)
			if lone := r.counter.of(jobs.LoneRuns); lone != 0 {
				t.Fatalf("delivery %d: %d groups of suspects", n, lone)
			}
			r.drain()
			time.Sleep(time.Second)
			r.cut()
			<-r.ended
		}
	})
}

func TestALostLeaseIsNoCrash(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, settings(), service{name: "a", answer: after(time.Hour, allOK)})
		for n := 1; n <= 5; n++ {
			d := delivery(1)
			d.Delivered = n
			r.push(d)
			time.Sleep(time.Second)
			r.setDown(true)
			time.Sleep(time.Minute)
			r.setDown(false)
			if lone := r.counter.of(jobs.LoneRuns); lone != 0 {
				t.Fatalf("delivery %d: %d groups of suspects", n, lone)
			}
		}
		r.cut()
		<-r.ended
	})
}
