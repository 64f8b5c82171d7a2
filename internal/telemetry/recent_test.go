package telemetry_test

import (
	"testing"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/pool"
	"rollcall/internal/telemetry"
)

// clock is set by hand.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

// settled is a settlement of a batch with these outcomes.
func settled(id string, outcomes ...jobs.Outcome) *jobs.Settlement {
	b := &jobs.Batch{ID: id, Pool: "mail", Seal: jobs.SealSize, SealedAt: time.Unix(1_700_000_000, 0)}
	s := &jobs.Settlement{Batch: b, Outcome: jobs.BatchPartial, SettledAt: b.SealedAt.Add(40 * time.Millisecond)}
	for _, o := range outcomes {
		b.Jobs = append(b.Jobs, &jobs.Job{Delivery: jobs.Delivery{Delivered: 1, Published: b.SealedAt.Add(-time.Second)}})
		s.Rulings = append(s.Rulings, jobs.Ruling{Outcome: o})
	}
	s.Services = []jobs.ServiceReport{{Name: "billing", OK: len(outcomes), Duration: jobs.Millis(30 * time.Millisecond)}}
	return s
}

// play reports a whole batch to an observer.
func play(t *testing.T, o pool.Observer, s *jobs.Settlement) {
	t.Helper()
	_, end := o.Batch(t.Context(), s.Batch)
	end(jobs.BatchEnd{Result: jobs.BatchCommitted, Settlement: s})
}

func TestRecentKeepsTheLastBatchesNewestFirst(t *testing.T) {
	t.Parallel()
	r := telemetry.NewRecent(nil)
	for i := range 120 {
		play(t, r, settled(string(rune('A'+i)), jobs.Succeeded, jobs.Retrying))
	}
	got := r.Batches()
	if len(got) != 50 {
		t.Fatalf("%d batches are remembered, want 50", len(got))
	}
	if got[0].ID != string(rune('A'+119)) || got[49].ID != string(rune('A'+70)) {
		t.Errorf("from %q to %q; want the latest first", got[0].ID, got[49].ID)
	}
	if c := got[0].Counts; c.Total != 2 || c.Succeeded != 1 || c.Retrying != 1 || got[0].Result != jobs.BatchCommitted || got[0].Services[0].OK != 2 {
		t.Errorf("got %+v", got[0])
	}
}

func TestRecentCountsJobsThatAreNotRoutedToAService(t *testing.T) {
	t.Parallel()
	r := telemetry.NewRecent(nil)
	for range 2 {
		s := settled("b", jobs.Succeeded, jobs.Succeeded, jobs.Succeeded)
		s.Services[0].OK, s.Services[0].Skipped = 1, 2
		play(t, r, s)
		_, end := r.Batch(t.Context(), s.Batch)
		end(jobs.BatchEnd{Result: jobs.BatchAborted})
	}
	if got, other := r.Skipped("billing"), r.Skipped("index"); got != 4 || other != 0 {
		t.Errorf("%d and %d jobs, want 4 and 0", got, other)
	}
}

func TestRecentRemembersABatchThatWasNotCommitted(t *testing.T) {
	t.Parallel()
	r := telemetry.NewRecent(nil)
	s := settled("b1", jobs.Succeeded, jobs.Succeeded)
	s.Batch.Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	_, end := r.Batch(t.Context(), s.Batch)
	end(jobs.BatchEnd{Result: jobs.BatchAborted})
	got := r.Batches()[0]
	if got.Result != jobs.BatchAborted || got.Outcome != "" || got.Counts.Total != 2 || got.TraceID != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("got %+v", got)
	}
	for _, second := range r.Seconds(5) {
		if second != (jobs.Tally{}) {
			t.Errorf("jobs of an uncommitted batch were counted: %+v", second)
		}
	}
}

func TestRecentCountsBySecondAndForgets(t *testing.T) {
	t.Parallel()
	c := &clock{at: time.Unix(1_700_000_000, 0)}
	r := telemetry.NewRecent(c.now)
	play(t, r, settled("b1", jobs.Succeeded, jobs.Failed, jobs.Invalid, jobs.Retrying))
	if got := r.Seconds(3); got[2] != (jobs.Tally{}) {
		t.Errorf("the second under way is shown as whole: %+v", got)
	}
	c.at = c.at.Add(2 * time.Second)
	got := r.Seconds(3)
	want := jobs.Tally{Succeeded: 1, Dead: 2, Retrying: 1}
	if got[1] != want || got[2] != (jobs.Tally{}) {
		t.Errorf("after two seconds: %+v, want %+v in the middle", got, want)
	}
	// A gap longer than the window must not leave old counts behind.
	c.at = c.at.Add(299 * time.Second)
	for i, second := range r.Seconds(299) {
		if second != (jobs.Tally{}) {
			t.Errorf("second %d still holds %+v", i, second)
		}
	}
}

func TestRecentSurvivesAClockThatJumpsBack(t *testing.T) {
	t.Parallel()
	c := &clock{at: time.Unix(1_700_000_000, 0)}
	r := telemetry.NewRecent(c.now)
	c.at = c.at.Add(-time.Hour)
	play(t, r, settled("b1", jobs.Succeeded))
	c.at = c.at.Add(time.Hour + time.Second)
	if got := r.Seconds(1); got[0].Succeeded != 1 {
		t.Errorf("got %+v", got)
	}
}
