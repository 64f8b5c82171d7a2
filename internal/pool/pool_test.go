package pool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/internal/jobs"
	"rollcall/internal/pool"
)

func TestBatchIsCommittedBeforeItIsAcked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failing := service{name: "billing", answer: func(_ context.Context, c *jobs.Call) jobs.CallResult {
			return jobs.CallResult{Tries: 1, Replies: []jobs.Reply{{Status: jobs.StatusOK}, {Status: jobs.StatusFail, Error: "no such account"}}}
		}}
		r := start(t, settings(), failing)
		r.push(deliveries(1, 2)...)
		synctest.Wait()
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		want := []string{"dead 2", "commit 2", "ack 1", "ack 2"}
		if diff := cmp.Diff(want, r.journal.all()); diff != "" {
			t.Errorf("order of finishing (-want +got):\n%s", diff)
		}
	})
}

func TestRetryingJobIsGivenBackWithItsDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, settings(), service{name: "a", answer: func(context.Context, *jobs.Call) jobs.CallResult {
			return jobs.CallResult{Tries: 1, Replies: []jobs.Reply{{Status: jobs.StatusOK}, {RetryAfter: 7 * time.Second}}}
		}})
		r.push(deliveries(1, 2)...)
		synctest.Wait()
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		if diff := cmp.Diff(map[uint64][]time.Duration{2: {7 * time.Second}}, r.delays); diff != "" {
			t.Errorf("naks (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"commit 2", "ack 1", "nak 2"}, r.journal.all()); diff != "" {
			t.Errorf("order of finishing (-want +got):\n%s", diff)
		}
	})
}

func TestBatchTheBrokerRefusesComesBackAfterABackOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, settings(), service{name: "a", answer: allOK})
		r.ledger.refuse = errors.New("the event is larger than the stream takes")
		var all time.Duration
		for seq := uint64(1); seq <= 20; seq++ {
			d := delivery(seq)
			d.Delivered = 2
			r.push(d)
		}
		time.Sleep(time.Second)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		for _, delays := range r.delays {
			all += delays[0]
		}
		if len(r.delays) != 20 || all < 5*time.Second {
			t.Errorf("%d jobs given back, after %s in all: services would be called in a tight loop", len(r.delays), all)
		}
		if r.journal.count("ack 1") != 0 {
			t.Error("acked without a record")
		}
	})
}

func TestServicesAreCalledAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		slow := after(time.Second, allOK)
		r := start(t, settings(), service{name: "a", answer: slow}, service{name: "b", answer: slow}, service{name: "c", answer: slow})
		r.push(deliveries(1, 2)...)
		time.Sleep(time.Second)
		synctest.Wait()
		if n := len(r.ledger.settlements()); n != 1 {
			t.Errorf("%d commits after %s; three services of one second each were not called at once", n, time.Since(began))
		}
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
	})
}

func TestSlowBatchDoesNotHoldUpAnotherSlot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		svc := service{name: "a", answer: func(ctx context.Context, c *jobs.Call) jobs.CallResult {
			if c.Jobs[0].Ref.Seq == 1 {
				return after(time.Hour, allOK)(ctx, c)
			}
			return allOK(ctx, c)
		}}
		r := start(t, settings(), svc)
		r.push(deliveries(1, 20)...)
		time.Sleep(time.Second)
		synctest.Wait()
		if n := len(r.ledger.settlements()); n != 9 {
			t.Errorf("%d batches committed beside the slow one, want 9", n)
		}
		time.Sleep(time.Hour)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
	})
}

func TestPanicInACallIsThatCallsFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, settings(),
			service{name: "bad", answer: func(context.Context, *jobs.Call) jobs.CallResult { panic("boom") }},
			service{name: "tells", answer: func(context.Context, *jobs.Call) jobs.CallResult {
				return jobs.CallResult{Tries: 1, Failure: &jobs.Failure{Reason: jobs.ReasonPanic, Err: errors.New("recovered further down")}}
			}},
			service{name: "good", answer: allOK})
		r.push(deliveries(1, 2)...)
		synctest.Wait()
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		s := r.ledger.settlements()[0]
		if s.Rulings[0].Outcome != jobs.Retrying || !slices.Equal(s.Rulings[0].OK, []string{"good"}) {
			t.Errorf("ruling %+v, want retrying with good done", s.Rulings[0])
		}
		if n := r.counter.of(jobs.Panics); n != 2 {
			t.Errorf("%d panics counted, want 2", n)
		}
	})
}

func TestRedeliveredJobCallsOnlyWhatIsMissing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		called := &journal{}
		note := func(ctx context.Context, c *jobs.Call) jobs.CallResult {
			for _, j := range c.Jobs {
				called.add("%s %d", c.Service, j.Ref.Seq)
			}
			return allOK(ctx, c)
		}
		r := start(t, settings(), service{name: "a", answer: note}, service{name: "b", answer: note})
		r.ledger.set(1, jobs.Record{Attempts: 1, Runs: 1, OK: []string{"a"}})
		r.ledger.set(2, jobs.Record{Final: true})
		again := deliveries(1, 3)
		for i := range again {
			again[i].Delivered = 2
		}
		r.push(again...)
		time.Sleep(time.Second)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		got := called.all()
		slices.Sort(got)
		if diff := cmp.Diff([]string{"a 3", "b 1", "b 3"}, got); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
		if r.journal.count("ack 2") != 1 || r.counter.of(jobs.DuplicateRedelivered) != 1 {
			t.Errorf("the final job was not acked once: %v", r.journal.all())
		}
		if a := r.ledger.settlements()[0].Rulings[0].Attempt; a != 2 {
			t.Errorf("attempt %d, want 2", a)
		}
	})
}

func TestInheritedJobIsLookedUpOnItsFirstDelivery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, settings(), service{name: "a", answer: func(context.Context, *jobs.Call) jobs.CallResult {
			t.Error("a final job was called for")
			return jobs.CallResult{}
		}})
		r.ledger.set(1, jobs.Record{Final: true})
		d := delivery(1)
		d.Inherited = true
		r.push(d)
		synctest.Wait()
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
	})
}

func TestLoserDropsFinalJobsAndCommitsTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, settings(), service{name: "a", answer: after(time.Second, allOK)})
		r.push(deliveries(1, 2)...)
		time.Sleep(time.Millisecond)
		r.ledger.set(1, jobs.Record{Final: true}) // another replica is faster
		time.Sleep(time.Second)
		synctest.Wait()
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		if diff := cmp.Diff([]string{"ack 1", "commit 1", "ack 2"}, r.journal.all()); diff != "" {
			t.Errorf("journal (-want +got):\n%s", diff)
		}
		e, err := jobs.DecodeEvent(r.ledger.settlements()[0].Event)
		if err != nil {
			t.Fatal(err)
		}
		if e.Data.Counts.Total != 1 || e.Data.Jobs[0].UID != ref(2).UID() || e.Data.Services[0].OK != 1 {
			t.Errorf("the event lists more than the rest: %+v", e.Data)
		}
	})
}

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
		r := start(t, cfg, service{name: "a", answer: func(ctx context.Context, c *jobs.Call) jobs.CallResult {
			calls.Add(1)
			return allOK(ctx, c)
		}})
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
		cfg.BatchBytes, cfg.BatchesInFlight = 100, 1
		var calls atomic.Int32
		r := start(t, cfg, service{name: "a", answer: func(ctx context.Context, c *jobs.Call) jobs.CallResult {
			calls.Add(1)
			return allOK(ctx, c)
		}})
		r.ledger.hold = make(chan struct{})
		for seq := range uint64(50) {
			d := delivery(seq + 1)
			d.Data = bytes.Repeat([]byte{'x'}, 100)
			r.push(d)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := calls.Load(); n != 4 {
			t.Errorf("%d batches of 100 bytes wait for their commit, want 4", n)
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

func TestDrainFinishesWhatIsInFlightAndHandsBackTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.BatchesInFlight, cfg.BatchSize = 2, 2
		cfg.BatchKey = mustKey(t, "subject")
		r := start(t, cfg, service{name: "a", answer: after(10*time.Second, allOK)})
		r.push(deliveries(1, 2)...)
		for seq := uint64(3); seq <= 4; seq++ { // two more keys, of which only one finds a free slot
			d := delivery(seq)
			d.Subject = "jobs." + string(rune('a'+seq))
			r.push(d)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		r.drain()
		synctest.Wait()
		if diff := cmp.Diff([]string{"nak 4"}, r.journal.all()); diff != "" {
			t.Errorf("right after the soft stop (-want +got):\n%s", diff)
		}
		if err := <-r.ended; err != nil {
			t.Fatalf("run: %v", err)
		}
		r.cut()
		seals := []jobs.Seal{r.ledger.settlements()[0].Batch.Seal, r.ledger.settlements()[1].Batch.Seal}
		slices.Sort(seals)
		if diff := cmp.Diff([]jobs.Seal{jobs.SealDrain, jobs.SealSize}, seals); diff != "" {
			t.Errorf("seals (-want +got):\n%s", diff)
		}
	})
}

func TestDrainFinishesWhatCannotBeGivenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.Once, cfg.BatchKey = true, mustKey(t, "subject")
		r := start(t, cfg, service{name: "a", answer: after(time.Second, allOK)})
		for seq := range uint64(3) { // a batch each, for two slots
			d := delivery(seq + 1)
			d.Subject = fmt.Sprintf("jobs.%d", seq)
			r.push(d)
		}
		time.Sleep(100 * time.Millisecond)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		if n, back := len(r.ledger.settlements()), r.counter.of(jobs.HandedBack); n != 3 || back != 0 {
			t.Errorf("%d jobs ended and %d were handed back that nobody takes back, want 3 and none", n, back)
		}
	})
}

func TestDrainDeadlineCancelsCallsAndHandsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, settings(), service{name: "a", answer: hang})
		r.push(deliveries(1, 2)...)
		synctest.Wait()
		r.drain()
		time.Sleep(25 * time.Second)
		r.cut()
		if err := <-r.ended; !errors.Is(err, pool.ErrDrainDeadline) {
			t.Errorf("run: %v, want the drain deadline", err)
		}
		got := slices.DeleteFunc(r.journal.all(), func(s string) bool { return strings.HasPrefix(s, "extend") })
		if diff := cmp.Diff([]string{"nak 1", "nak 2"}, got); diff != "" {
			t.Errorf("journal (-want +got):\n%s", diff)
		}
	})
}

func TestHardDeadlineDoesNotThrowFinishedWorkAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, settings(), service{name: "a", answer: allOK})
		r.ledger.hold = make(chan struct{})
		r.push(deliveries(1, 2)...)
		synctest.Wait()
		r.cut()
		time.Sleep(500 * time.Millisecond)
		close(r.ledger.hold)
		if err := <-r.ended; err != nil {
			t.Errorf("run: %v", err)
		}
		if n := len(r.ledger.settlements()); n != 1 {
			t.Errorf("%d commits", n)
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
		if lines := r.journal.all(); !slices.Contains(lines, "lone 2") || slices.Index(lines, "lone 2") > slices.Index(lines, "commit 1") {
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

func TestAJobThatWasNotSentBurnsNoAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, settings(), service{name: "a", answer: func(_ context.Context, c *jobs.Call) jobs.CallResult {
			replies := make([]jobs.Reply, len(c.Jobs))
			for i, j := range c.Jobs {
				replies[i].Unsent = j.Ref.Seq == 2
			}
			return jobs.CallResult{Replies: replies, Tries: 1}
		}})
		r.push(deliveries(1, 2)...)
		time.Sleep(time.Second)
		synctest.Wait()
		rulings := r.ledger.settlements()[0].Rulings
		if !rulings[0].Burnt || rulings[0].Attempt != 1 || rulings[1].Burnt || rulings[1].Attempt != 0 {
			t.Errorf("rulings %+v, want an attempt burnt by the first job only", rulings)
		}
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
	})
}

func TestSecondDeliveryOfAHeldJobIsDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, settings(), service{name: "a", answer: after(time.Minute, allOK)})
		r.push(deliveries(1, 2)...)
		synctest.Wait()
		d := delivery(1)
		d.Delivered = 2
		r.push(d)
		time.Sleep(2 * time.Minute)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		if r.journal.count("ack 1") != 1 || r.counter.of(jobs.DuplicateHeld) != 1 || len(r.ledger.settlements()) != 1 {
			t.Errorf("journal %v", r.journal.all())
		}
	})
}

func TestExpiredJobIsNotCalledFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.JobMaxAge = time.Hour
		r := start(t, cfg, service{name: "a", answer: func(ctx context.Context, c *jobs.Call) jobs.CallResult {
			if len(c.Jobs) != 1 || c.Jobs[0].Ref.Seq != 2 {
				t.Errorf("called for %d jobs", len(c.Jobs))
			}
			return allOK(ctx, c)
		}})
		old := delivery(1)
		old.Published = time.Now().Add(-2 * time.Hour)
		r.push(old, delivery(2))
		time.Sleep(time.Second)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		s := r.ledger.settlements()[0]
		if s.Rulings[0].Outcome != jobs.Expired || s.Rulings[1].Outcome != jobs.Succeeded || s.Outcome != jobs.BatchPartial {
			t.Errorf("rulings %+v", s.Rulings)
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

func TestRefusedBatchIsBisectedToTheCulprit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.BatchSize = 8
		keys := map[string]string{}
		r := start(t, cfg, service{name: "a", answer: func(ctx context.Context, c *jobs.Call) jobs.CallResult {
			if body, seen := keys[c.Key]; seen && body != string(c.Body) {
				t.Errorf("key %s stands for two bodies", c.Key)
			}
			keys[c.Key] = string(c.Body)
			for _, j := range c.Jobs {
				if j.Ref.Seq == 5 {
					return jobs.CallResult{Tries: 1, Failure: &jobs.Failure{Reason: jobs.ReasonHTTP4xx, Final: true, Code: 422, Err: errors.New("cannot read one of the jobs")}}
				}
			}
			return allOK(ctx, c)
		}})
		r.push(deliveries(1, 8)...)
		time.Sleep(time.Second)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		s := r.ledger.settlements()[0]
		for i, ruling := range s.Rulings {
			if want := s.Batch.Jobs[i].Ref.Seq == 5; want != (ruling.Outcome == jobs.Failed) {
				t.Errorf("job %d: %s", s.Batch.Jobs[i].Ref.Seq, ruling.Outcome)
			}
		}
		if len(keys) != 7 || s.Services[0].Tries != 7 {
			t.Errorf("%d calls to find one culprit of 8, want 7", len(keys))
		}
	})
}

func mustKey(t *testing.T, s string) (k pool.Key) {
	t.Helper()
	if err := k.UnmarshalText([]byte(s)); err != nil {
		t.Fatal(err)
	}
	return k
}
