package ledger_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
)

// perBucket is how many jobs share a bucket.
const perBucket = jobs.PageSize * jobs.PagesPerBucket

// settled is a store whose jobs are all settled at the broker, and the epoch of its stream.
func settled() (*ledgertest.Store, string) {
	store := &ledgertest.Store{Settled: ledger.Floor{Created: time.Now(), Seq: 10 * perBucket}}
	return store, jobs.Epoch(store.Settled.Created)
}

// commitOf makes jobs of an epoch final in the ledger of names.
func commitOf(t *testing.T, store ledger.Store, names ledger.Names, epoch string, seqs ...uint64) {
	t.Helper()
	cfg := ledgertest.Config()
	cfg.Names = names
	l := ledger.New(store, cfg, zerolog.Nop())
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	s := ledgertest.Settlement(names.Stream+epoch, jobs.Succeeded, seqs...)
	for _, j := range s.Batch.Jobs {
		j.Ref.Epoch = epoch
	}
	if err := l.Commit(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func sweeperOf(store ledger.Upkeep, names ledger.Names, r ledger.Retention) *ledger.Sweeper {
	return ledger.NewSweeper(store, names, ledger.NewRetentions(store, names, r), zerolog.Nop())
}

func sweep(t *testing.T, s *ledger.Sweeper) uint64 {
	t.Helper()
	n, err := s.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestOnePoolNameOnTwoStreamsKeepsBothLedgers: the streams' epochs differ, and to the pool on the
// newer stream the pages of the older one look like those of a stream that was recreated.
func TestOnePoolNameOnTwoStreamsKeepsBothLedgers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		older := jobs.Epoch(time.Now().Add(-time.Hour))
		store, newer := settled()
		orders, mails := ledger.Names{Pool: "p", Stream: "ORDERS"}, ledger.Names{Pool: "p", Stream: "MAILS"}
		commitOf(t, store, orders, older, 1, 2)
		commitOf(t, store, mails, newer, 1, 2)
		time.Sleep(time.Minute)
		if n := sweep(t, sweeperOf(store, mails, ledger.Retention{Horizon: time.Second, TTL: time.Hour})); n != 1 {
			t.Errorf("%d pages swept, want the one of MAILS", n)
		}
		if !store.Has(orders.Page(jobs.Ref{Epoch: older, Seq: 1})) {
			t.Error("the pool on MAILS forgot the ledger of the pool on ORDERS")
		}
	})
}

// TestTheLongestHorizonRules: a deploy that shortens the horizon must not let the ledger forget
// what an old replica, stalled meanwhile, has to be refused by.
func TestTheLongestHorizonRules(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, epoch := settled()
		names := ledgertest.Names()
		const horizon = 10 * time.Minute
		old := ledger.NewRetentions(store, names, ledger.Retention{Horizon: horizon, TTL: 24 * time.Hour})
		if _, err := old.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		// The old replica stalls now. Another one ends its jobs, then the deploy takes over.
		commitOf(t, store, names, epoch, 1)
		retentions := ledger.NewRetentions(store, names, ledger.Retention{Horizon: 5 * time.Second, TTL: time.Minute})
		sweeper := ledger.NewSweeper(store, names, retentions, zerolog.Nop())
		for start := time.Now(); time.Since(start) < horizon; time.Sleep(2 * time.Second) {
			if n := sweep(t, sweeper); n > 0 {
				t.Fatalf("the ledger was swept %v after the replica stalled, before its horizon of %v", time.Since(start), horizon)
			}
			if got := retentions.TTL(); got != 24*time.Hour {
				t.Fatalf("pages are written with a TTL of %v, want the longest", got)
			}
		}
		time.Sleep(2*horizon + time.Minute)
		if n := sweep(t, sweeper); n != 1 {
			t.Errorf("%d pages swept long after the old replica was seen last, want 1", n)
		}
		if got := retentions.Longest(); got != (ledger.Retention{Horizon: 5 * time.Second, TTL: time.Minute}) {
			t.Errorf("the retention is %+v, want that of the only replica", got)
		}
	})
}

// blind is a store whose retentions cannot be read.
type blind struct{ *ledgertest.Store }

func (b blind) Scan(ctx context.Context, filter string, from uint64) ([]ledger.Entry, error) {
	if filter != ledgertest.Names().Pages() {
		return nil, errors.New("no answer")
	}
	return b.Store.Scan(ctx, filter, from)
}

func TestNothingIsSweptWhileTheHorizonsCannotBeRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, epoch := settled()
		commitOf(t, store, ledgertest.Names(), epoch, 1)
		time.Sleep(time.Hour / 2)
		sweeper := sweeperOf(blind{store}, ledgertest.Names(), ledger.Retention{Horizon: time.Second, TTL: time.Hour})
		if n, err := sweeper.Sweep(t.Context()); err == nil || n > 0 {
			t.Errorf("Sweep() = %d, %v; want an error and nothing swept", n, err)
		}
		if !store.Has(ledgertest.Names().Page(jobs.Ref{Epoch: epoch, Seq: 1})) {
			t.Error("the page is gone")
		}
	})
}

func TestReplicasWithTheSameRetentionShareItsRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, _ := settled()
		for range 3 {
			r := ledger.NewRetentions(store, ledgertest.Names(), ledger.Retention{Horizon: time.Minute, TTL: time.Hour})
			if _, err := r.Renew(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		want := "done.ledger.test.retention.JOBS.60000.3600000"
		if got := store.Stored("done.ledger.>"); len(got) != 1 || got[want] != 3*time.Minute {
			t.Errorf("stored %v, want %s alone, which outlives a replica by more than its horizon", got, want)
		}
	})
}
