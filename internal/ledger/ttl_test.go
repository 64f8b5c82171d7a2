package ledger_test

import (
	"testing"
	"testing/synctest"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/ledger/ledgertest"
)

// TestAPageIsKeptWhileAJobOnItIsOpen: a pause may be longer than the ledger's life, and the
// successes and attempts of a job that waits must outlast it. The life counts from the job's end.
func TestAPageIsKeptWhileAJobOnItIsOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &ledgertest.Store{}
		l := runLedger(t, store)
		s := ledgertest.Settlement("b1", jobs.Retrying, 1, 2)
		s.Rulings[0] = jobs.Ruling{Outcome: jobs.Succeeded}
		s.Rulings[1].OK = []string{"billing"}
		if err := l.Commit(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		page := ledgertest.Names().Page(s.Batch.Jobs[1].Ref)
		if ttl, found := store.Stored(page)[page]; ttl != 0 || !found {
			t.Errorf("the page of a job that waits has a TTL of %v (stored: %v), want none", ttl, found)
		}
		time.Sleep(48 * time.Hour)
		if got := ledgertest.Records(t, runLedger(t, store), 2)[0]; got.Attempts != 1 || !got.HasOK("billing") {
			t.Errorf("after a pause of two days the record is %+v, want one attempt and billing done", got)
		}
		if err := l.Commit(t.Context(), ledgertest.Settlement("b2", jobs.Succeeded, 2)); err != nil {
			t.Fatal(err)
		}
		for _, age := range []struct {
			passed time.Duration
			final  bool
		}{{59 * time.Minute, true}, {time.Minute, false}} {
			time.Sleep(age.passed)
			if got := ledgertest.Records(t, runLedger(t, store), 2)[0]; got.Final != age.final {
				t.Errorf("%v later the job is final in the ledger: %v, want %v", age.passed, got.Final, age.final)
			}
		}
	})
}

// TestAPageOfFinalJobsHasATimeToLive although other jobs of the page were never tried: they have
// no record that could be lost.
func TestAPageOfFinalJobsHasATimeToLive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &ledgertest.Store{}
		if err := runLedger(t, store).Commit(t.Context(), ledgertest.Settlement("b1", jobs.Succeeded, 1)); err != nil {
			t.Fatal(err)
		}
		page := ledgertest.Names().Page(jobs.Ref{Epoch: ledgertest.Epoch, Seq: 1})
		if got := store.Stored(page)[page]; got != time.Hour {
			t.Errorf("the page has a TTL of %v, want that of the ledger", got)
		}
	})
}
