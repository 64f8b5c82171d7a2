package ledger_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
)

// TestNothingCountsAfterTheBrokerWasSetBack: the store is replaced by an older, empty one, whose
// jobs have the numbers of others that the replica made final.
func TestNothingCountsAfterTheBrokerWasSetBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		world := &swapped{Store: &ledgertest.Store{}}
		l := runLedger(t, world)
		if err := l.Commit(t.Context(), ledgertest.Settlement("b1", jobs.Succeeded, 1, 2, 3)); err != nil {
			t.Fatal(err)
		}
		held := ledgertest.Settlement("b2", jobs.Succeeded, 4)
		held.Batch.Jobs[0].Received = time.Now()
		time.Sleep(time.Second)

		world.Store = &ledgertest.Store{}
		l.Restart(time.Now())
		if got := ledgertest.Records(t, l, 1)[0]; got.Final {
			t.Error("job 1 of the restored broker counts as final: it would be acked without a call")
		}
		if err := l.Commit(t.Context(), held); !errors.Is(err, ledger.ErrSetBack) {
			t.Errorf("Commit() = %v for a job that was received before, want ErrSetBack", err)
		}
		fresh := ledgertest.Settlement("b3", jobs.Succeeded, 1, 2, 3, 4)
		for _, j := range fresh.Batch.Jobs {
			j.Received = time.Now()
		}
		if err := l.Commit(t.Context(), fresh); err != nil {
			t.Errorf("Commit() = %v for jobs that were received since", err)
		}
	})
}

// TestACommitThatWaitsIsGivenUpWhenTheBrokerWasSetBack: the broker is away, comes back older, and
// takes commits again.
func TestACommitThatWaitsIsGivenUpWhenTheBrokerWasSetBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		away.Store(true)
		store := &ledgertest.Store{Before: func([]ledger.Write) error {
			if away.Load() {
				return ledger.ErrBusy
			}
			return nil
		}}
		l := runLedger(t, store)
		s := ledgertest.Settlement("b1", jobs.Succeeded, 1)
		s.Batch.Jobs[0].Received = time.Now()
		ended := make(chan error, 1)
		go func() { ended <- l.Commit(t.Context(), s) }()
		time.Sleep(time.Minute)
		l.Restart(time.Now())
		away.Store(false)
		if err := <-ended; !errors.Is(err, ledger.ErrSetBack) {
			t.Errorf("Commit() = %v, want ErrSetBack", err)
		}
		if store.Seq() > 0 {
			t.Error("the commit was stored all the same")
		}
	})
}

// swapped is a store that can be replaced by another one.
type swapped struct{ *ledgertest.Store }

// TestWhatIsReadBeforeAnInvalidationIsNotRemembered: a read that began before the reconnect must
// not fill the cache after it.
func TestWhatIsReadBeforeAnInvalidationIsNotRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l *ledger.Ledger
		store := &ledgertest.Store{}
		store.After = func([]ledger.Write) error { l.Invalidate(); return nil } // the connection breaks after the reply
		l = runLedger(t, store)
		if err := l.Commit(t.Context(), ledgertest.Settlement("b1", jobs.Succeeded, 1)); err != nil {
			t.Fatal(err)
		}
		store.After = nil
		applied := store.Applies()
		if err := l.Commit(t.Context(), ledgertest.Settlement("b2", jobs.Succeeded, 2)); err != nil {
			t.Fatal(err)
		}
		if n := store.Applies() - applied; n != 2 || store.Reads() != 1 {
			t.Errorf("%d publishes and %d reads, want the page to be read anew before it is written", n, store.Reads())
		}
	})
}

// TestASetIsEndedAfterTheBrokerWasSetBack: its tally stands at a sequence that the sweep has read
// before.
func TestASetIsEndedAfterTheBrokerWasSetBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		world := &swapped{Store: &ledgertest.Store{}}
		r := startSets(t, world, "r1")
		if err := r.Commit(t.Context(), memberBatch("b1", "open", 100, jobs.Succeeded, 1, 2, 3)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // the sweep has seen the tally
		r.stop()

		world.Store = &ledgertest.Store{}
		r.sets.Restart()
		// Another replica counts the only member and crashes before it can end the set.
		cfg := ledgertest.Config()
		cfg.Lane, cfg.TallyTTL = ledger.Lane("crashed"), time.Hour
		if err := ledgertest.Run(t, ledger.New(world, cfg, zerolog.Nop())).Commit(t.Context(), memberBatch("b2", "whole", 1, jobs.Succeeded, 1)); err != nil {
			t.Fatal(err)
		}
		if err := r.sets.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !world.Has("done.sets.test.succeeded.whole") {
			t.Error("the set has not ended")
		}
	})
}
