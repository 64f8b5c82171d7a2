package ledger_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
)

// TestEraseMembers_WhileAReplicaCounts: a replica counts another member between the reading and the
// writing of a tally, and one that knows only the tally before the erasure counts a third.
func TestEraseMembers_WhileAReplicaCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := new(ledgertest.Store)
		l := startSets(t, store, "web-1")
		mustCommit(t, l, memberBatch("b1", "import-7", 3, jobs.Failed, 1))
		var raced atomic.Bool
		raced.Store(true)
		store.Before = func([]ledger.Write) error {
			if raced.CompareAndSwap(true, false) { // the write of the erasure
				mustCommit(t, l, memberBatch("b2", "import-7", 3, jobs.Failed, 2))
			}
			return nil
		}
		named := func(f *jobs.SetFailure) bool { return f.ID == "row-1" && !f.Erased }
		if n, err := ledger.EraseMembers(t.Context(), store, ledgertest.Names(), named, time.Hour); n != 1 || err != nil {
			t.Fatalf("EraseMembers() = %d, %v; want one tally", n, err)
		}
		if raced.Load() {
			t.Error("nothing was written")
		}
		mustCommit(t, l, memberBatch("b3", "import-7", 3, jobs.Failed, 3))
		time.Sleep(time.Second)
		events := setEvents(t, store)["import-7"]
		if len(events) != 1 || events[0].Data.Counts.Failed != 3 || len(events[0].Data.Failed) != 3 || !events[0].Data.Truncated {
			t.Fatalf("the set ended as %+v", events)
		}
		for i, f := range events[0].Data.Failed {
			if erased := i == 0; f.Erased != erased || (f.ID == "") != erased || f.UID == "" {
				t.Errorf("member %d: %+v", i+1, f)
			}
		}
		if n, err := ledger.EraseMembers(t.Context(), store, ledgertest.Names(), named, time.Hour); n != 0 || err != nil {
			t.Errorf("a second time: %d, %v; want nothing to do", n, err)
		}
		l.stop()
	})
}
