package ledgertest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
)

// The names of the batches made here.
const (
	Pool   = "test"
	Stream = "JOBS"
	Epoch  = "e1"
)

// patience bounds every wait of a test; only a failing one waits that long.
const patience = 30 * time.Second

// Names are those of the test pool's ledger.
func Names() ledger.Names { return ledger.Names{Pool: Pool, Stream: Stream} }

// Config is that of the test pool.
func Config() ledger.Config {
	return ledger.Config{
		Names: Names(), TTL: func() time.Duration { return time.Hour },
		EventSubject: func(pool string, outcome jobs.BatchOutcome, batchID string) string {
			return "done.batches." + pool + "." + string(outcome) + "." + batchID
		},
	}
}

// Run runs a ledger's committer until the test ends.
func Run(t testing.TB, l *ledger.Ledger) *ledger.Ledger {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
	})
	t.Cleanup(func() {
		stop()
		wg.Wait()
	})
	return l
}

// Settlement is a batch of the jobs with the sequences seqs, which all end with outcome.
func Settlement(id string, outcome jobs.Outcome, seqs ...uint64) *jobs.Settlement {
	s := &jobs.Settlement{Batch: &jobs.Batch{ID: id, Pool: Pool}, Outcome: jobs.BatchSucceeded, Event: []byte(`{"id":"` + id + `"}`)}
	for _, seq := range seqs {
		ref := jobs.Ref{Epoch: Epoch, Seq: seq}
		s.Batch.Jobs = append(s.Batch.Jobs, &jobs.Job{Delivery: jobs.Delivery{Ref: ref, UID: ref.UID()}})
		s.Rulings = append(s.Rulings, jobs.Ruling{Outcome: outcome, Burnt: outcome == jobs.Retrying})
	}
	if outcome == jobs.Retrying {
		s.Outcome = jobs.BatchPartial
	}
	s.Replies = make([]jobs.Replies, len(seqs))
	return s
}

// Span lists the sequences from from on, to to exclusive.
func Span(from, to uint64) (seqs []uint64) {
	for seq := from; seq < to; seq++ {
		seqs = append(seqs, seq)
	}
	return seqs
}

// CommitAll commits like the pool does: jobs that another replica finished are dropped. It
// returns the sequences of the jobs that it made final.
func CommitAll(ctx context.Context, l *ledger.Ledger, s *jobs.Settlement) ([]uint64, error) {
	for len(s.Batch.Jobs) > 0 {
		err := l.Commit(ctx, s)
		if err == nil {
			break
		}
		var conflict *jobs.ConflictError
		if !errors.As(err, &conflict) {
			return nil, err
		}
		event, outcome := s.Event, s.Outcome
		s, _ = s.Without(conflict.Final)
		s.Event, s.Outcome = event, outcome
	}
	var seqs []uint64
	for _, j := range s.Batch.Jobs {
		seqs = append(seqs, j.Ref.Seq)
	}
	return seqs, nil
}

// Records loads the records of the jobs with the sequences seqs.
func Records(t testing.TB, l *ledger.Ledger, seqs ...uint64) []jobs.Record {
	t.Helper()
	refs := make([]jobs.Ref, len(seqs))
	for i, seq := range seqs {
		refs[i] = jobs.Ref{Epoch: Epoch, Seq: seq}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got, err := l.Load(ctx, refs)
	if err != nil {
		t.Fatal(err)
	}
	return got
}
