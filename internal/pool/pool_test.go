package pool_test

import (
	"context"
	"errors"
	"slices"
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
		r.ledger.set(1, jobs.Record{Attempts: 1, Seen: 1, Since: 1, OK: []string{"a"}})
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

// TestAJobsAgeGoesByTheBrokersClock: with a machine five minutes ahead, every fresh job was
// expired as soon as it arrived.
func TestAJobsAgeGoesByTheBrokersClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.JobMaxAge = time.Minute
		r := prepare(t)
		r.ahead = -5 * time.Minute
		r.start(t, cfg, service{name: "a", answer: allOK})
		fresh, old := delivery(1), delivery(2)
		fresh.Published = time.Now().Add(r.ahead)
		old.Published = time.Now().Add(r.ahead - 2*time.Minute)
		r.push(fresh, old)
		time.Sleep(time.Second)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		s := r.ledger.settlements()[0]
		if s.Rulings[0].Outcome != jobs.Succeeded || s.Rulings[1].Outcome != jobs.Expired {
			t.Errorf("rulings %+v, want the fresh job succeeded and the old one expired", s.Rulings)
		}
		if late := time.Now().Add(r.ahead).Sub(s.SettledAt); late < 0 || late > time.Minute {
			t.Errorf("settled %v ago by the broker's clock", late)
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
