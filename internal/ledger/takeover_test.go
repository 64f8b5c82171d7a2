package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
)

// renamed is the ledger of the pool that takes over.
func renamed() ledger.Names { return ledger.Names{Pool: "renamed", Stream: ledgertest.Stream} }

func ledgerOf(t *testing.T, store ledger.Store, names ledger.Names) *ledger.Ledger {
	t.Helper()
	cfg := ledgertest.Config()
	cfg.Names = names
	return ledgertest.Run(t, ledger.New(store, cfg, zerolog.Nop()))
}

// takeOver is that of the test pool by the renamed one.
func takeOver() ledger.TakeOver {
	return ledger.TakeOver{From: ledgertest.Names(), To: renamed(), Own: ledger.Retention{Horizon: time.Minute, TTL: time.Hour}}
}

// history commits jobs that ended, and others that were tried.
func commitHistory(t *testing.T, l *ledger.Ledger, pages int) (seqs []uint64) {
	t.Helper()
	var ended, tried []uint64
	for n := range uint64(pages) {
		ended, tried = append(ended, n*jobs.PageSize), append(tried, n*jobs.PageSize+5)
	}
	s := ledgertest.Settlement("tried", jobs.Retrying, tried...)
	for i := range s.Rulings {
		s.Rulings[i].OK, s.Rulings[i].Delivered = []string{"billing"}, 7
	}
	for _, batch := range []*jobs.Settlement{ledgertest.Settlement("ended", jobs.Succeeded, ended...), s} {
		if err := l.Commit(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	return append(ended, tried...)
}

func TestARenamedPoolKnowsWhatTheOldOneDid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &ledgertest.Store{}
		old := ledgerOf(t, store, ledgertest.Names())
		seqs := commitHistory(t, old, 700) // more than one step moves
		want := ledgertest.Records(t, old, seqs...)
		for i := range want {
			want[i].Seen, want[i].Since = 0, 0 // the new consumer counts deliveries from one
		}
		moved, err := takeOver().Run(t.Context(), store)
		if err != nil || moved != 700 {
			t.Fatalf("Run() = %d, %v; want 700 pages moved", moved, err)
		}
		if diff := cmp.Diff(want, ledgertest.Records(t, ledgerOf(t, store, renamed()), seqs...)); diff != "" {
			t.Errorf("records (-old +new):\n%s", diff)
		}
		if moved, err = takeOver().Run(t.Context(), store); err != nil || moved != 0 {
			t.Errorf("the second Run() = %d, %v; want nothing left to do", moved, err)
		}
	})
}

// TestATakeOverThatWasKilledIsFinishedByRunningItAgain kills it before and after every step.
func TestATakeOverThatWasKilledIsFinishedByRunningItAgain(t *testing.T) {
	t.Parallel()
	killed := errors.New("killed")
	for step := range 3 {
		for _, stored := range []bool{false, true} {
			t.Run(fmt.Sprintf("step %d, stored %v", step, stored), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					store := &ledgertest.Store{}
					seqs := commitHistory(t, ledgerOf(t, store, ledgertest.Names()), 700)
					n := 0
					kill := func([]ledger.Write) error {
						if n++; n == step+1 {
							return killed
						}
						return nil
					}
					if stored {
						store.After = kill
					} else {
						store.Before = kill
					}
					_, err := takeOver().Run(t.Context(), store)
					if want := step < 2; errors.Is(err, killed) != want {
						t.Fatalf("Run() = %v, killed %v", err, want)
					}
					store.Before, store.After = nil, nil
					if _, err := takeOver().Run(t.Context(), store); err != nil {
						t.Fatal(err)
					}
					for i, r := range ledgertest.Records(t, ledgerOf(t, store, renamed()), seqs...) {
						if final := i < len(seqs)/2; r.Final != final || !final && !r.HasOK("billing") {
							t.Errorf("job %d: %+v", seqs[i], r)
						}
					}
				})
			})
		}
	}
}

// TestAReplicaOfTheOldPoolCannotCommitAnyMore: it stalled before the take-over and wakes after it,
// with jobs that have a record and with such that have none.
func TestAReplicaOfTheOldPoolCannotCommitAnyMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &ledgertest.Store{}
		stalled := ledgerOf(t, store, ledgertest.Names())
		commitHistory(t, stalled, 2)
		to := takeOver()
		to.Fence = ledger.Range{Epoch: ledgertest.Epoch, First: 0, Last: 10 * jobs.PageSize}
		if _, err := to.Run(t.Context(), store); err != nil {
			t.Fatal(err)
		}
		for _, seq := range []uint64{5, 9 * jobs.PageSize} {
			s := ledgertest.Settlement(fmt.Sprint("zombie", seq), jobs.Succeeded, seq)
			if err := stalled.Commit(t.Context(), s); !errors.Is(err, ledger.ErrRefused) {
				t.Errorf("job %d: Commit() = %v in the old pool, want it refused", seq, err)
			}
			if err := ledgerOf(t, store, renamed()).Commit(t.Context(), s); err != nil {
				t.Errorf("job %d: Commit() = %v in the new pool", seq, err)
			}
		}
	})
}

// TestSetsAreTakenOverToo: their members were counted under the old name.
func TestSetsAreTakenOverToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &ledgertest.Store{}
		r := startSets(t, store, "r1")
		mustCommit(t, r, memberBatch("b1", "import", 5, jobs.Succeeded, 1, 2))
		r.stop()
		if _, err := takeOver().Run(t.Context(), store); err != nil {
			t.Fatal(err)
		}
		for names, want := range map[ledger.Names]int{ledgertest.Names(): -1, renamed(): 2} {
			state, err := ledger.ReadSet(t.Context(), store, names, "import")
			if want < 0 && err == nil || want >= 0 && (err != nil || state.Tally.Counts.Total != want || state.Tally.Size != 5) {
				t.Errorf("pool %s has counted %+v, %v", names.Pool, state.Tally, err)
			}
		}
	})
}

func TestOtherPoolsOverTheSameStreamAreFound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &ledgertest.Store{}
		others := func() map[string][]uint64 {
			found, err := ledger.Others(context.Background(), store, renamed(), ledgertest.Epoch)
			if err != nil {
				t.Fatal(err)
			}
			return found
		}
		commitOf(t, store, ledger.Names{Pool: "elsewhere", Stream: "MAILS"}, ledgertest.Epoch, 1)
		commitOf(t, store, renamed(), ledgertest.Epoch, 4)
		if got := others(); len(got) != 0 {
			t.Errorf("found %v, want neither the own ledger nor that of another stream", got)
		}
		commitOf(t, store, ledgertest.Names(), ledgertest.Epoch, 3, 2, 100)
		if diff := cmp.Diff(map[string][]uint64{"test": {2, 3, 100}}, others()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if _, err := takeOver().Run(t.Context(), store); err != nil {
			t.Fatal(err)
		}
		if got := others(); len(got) != 0 {
			t.Errorf("found %v after the take-over", got)
		}
	})
}
