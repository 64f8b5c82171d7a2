package bus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

const epoch = "e1"

// runLedger returns a ledger whose committer runs until the test ends.
func runLedger(t testing.TB, store bus.PageStore) *bus.Ledger {
	t.Helper()
	ledger := bus.NewLedger(store, pool, time.Hour, zerolog.Nop())
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := ledger.Run(ctx); err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
	})
	t.Cleanup(func() {
		stop()
		wg.Wait()
	})
	return ledger
}

// settlement is a batch whose jobs all end with outcome.
func settlement(id string, outcome jobs.Outcome, seqs ...uint64) *jobs.Settlement {
	s := &jobs.Settlement{Batch: &jobs.Batch{ID: id, Pool: pool}, Outcome: jobs.BatchSucceeded, Event: []byte(`{"id":"` + id + `"}`)}
	for _, seq := range seqs {
		ref := jobs.Ref{Epoch: epoch, Seq: seq}
		s.Batch.Jobs = append(s.Batch.Jobs, &jobs.Job{Delivery: jobs.Delivery{Ref: ref, UID: ref.UID()}})
		s.Rulings = append(s.Rulings, jobs.Ruling{Outcome: outcome, Burnt: outcome == jobs.Retrying})
	}
	if outcome == jobs.Retrying {
		s.Outcome = jobs.BatchPartial
	}
	s.Answers = make([]jobs.Answers, len(seqs))
	return s
}

func span(from, to uint64) (seqs []uint64) {
	for seq := from; seq < to; seq++ {
		seqs = append(seqs, seq)
	}
	return seqs
}

func patient(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// commitAll commits like the pool does: jobs that somebody else finished are dropped. It
// returns the jobs it made final.
func commitAll(ctx context.Context, ledger *bus.Ledger, s *jobs.Settlement) ([]uint64, error) {
	for len(s.Batch.Jobs) > 0 {
		err := ledger.Commit(ctx, s)
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

// stored returns the subjects that DONE holds below filter, with how often each.
func stored(t testing.TB, conn *bus.Conn, filter string) map[string]uint64 {
	t.Helper()
	stream, err := jetStream(t, conn).Stream(t.Context(), bus.StreamDone)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(filter))
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Subjects
}

func records(t testing.TB, ledger *bus.Ledger, seqs ...uint64) []jobs.Record {
	t.Helper()
	refs := make([]jobs.Ref, len(seqs))
	for i, seq := range seqs {
		refs[i] = jobs.Ref{Epoch: epoch, Seq: seq}
	}
	got, err := ledger.Load(patient(t), refs)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestCommitStoresPagesAndEvent(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	ledger := runLedger(t, bus.NewPageStore(conn))

	s := settlement("b1", jobs.Succeeded, span(1, 41)...)
	s.Rulings[4] = jobs.Ruling{Outcome: jobs.Retrying, Burnt: true, OK: []string{"billing"}}
	if err := ledger.Commit(patient(t), s); err != nil {
		t.Fatal(err)
	}
	if got := stored(t, conn, bus.EventsFilter(pool)); len(got) != 1 || got["done.batch.test.succeeded.b1"] != 1 {
		t.Errorf("events %v, want the one of b1", got)
	}
	if got := stored(t, conn, "done.page.>"); len(got) != 3 || got["done.page.test.e1.0.2"] != 1 {
		t.Errorf("pages %v, want 0, 1 and 2 of bucket 0", got)
	}
	fresh := runLedger(t, bus.NewPageStore(conn))
	got := records(t, fresh, 1, 5, 40, 41, 1000)
	if !got[0].Final || !got[2].Final || got[3].Final || got[4].Final {
		t.Errorf("records %+v, want 1 and 40 final, 41 and 1000 unknown", got)
	}
	if got[1].Attempts != 1 || !got[1].HasOK("billing") || got[1].Final {
		t.Errorf("record of 5 is %+v, want one attempt with billing done", got[1])
	}
}

func TestRacingCommittersFinishEachJobOnce(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	ctx := patient(t)
	const replicas, batches, size = 4, 12, 40

	var mu sync.Mutex
	finished := make(map[uint64]string)
	var wg sync.WaitGroup
	for r := range replicas {
		ledger := runLedger(t, bus.NewPageStore(conn))
		for b := range batches {
			wg.Go(func() {
				// Neighbouring batches overlap by half, and every replica does all of them.
				id := fmt.Sprintf("r%db%d", r, b)
				seqs, err := commitAll(ctx, ledger, settlement(id, jobs.Succeeded, span(uint64(b*size/2+1), uint64(b*size/2+1+size))...))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, seq := range seqs {
					if other, ok := finished[seq]; ok {
						t.Errorf("job %d was finished by %s and %s", seq, other, id)
					}
					finished[seq] = id
				}
			})
		}
	}
	wg.Wait()
	if want := (batches + 1) * size / 2; len(finished) != want {
		t.Errorf("%d jobs were finished, want %d", len(finished), want)
	}
	events := make(map[string]bool)
	for _, id := range finished {
		events[id] = true
	}
	if got := stored(t, conn, bus.EventsFilter(pool)); len(got) != len(events) {
		t.Errorf("%d events for %d batches that finished a job", len(got), len(events))
	}
}

func TestTheLoserIsToldWhichJobsAreFinal(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	winner, loser := runLedger(t, bus.NewPageStore(conn)), runLedger(t, bus.NewPageStore(conn))
	ctx := patient(t)
	if err := winner.Commit(ctx, settlement("w", jobs.Succeeded, 3, 20)); err != nil {
		t.Fatal(err)
	}
	err := loser.Commit(ctx, settlement("l", jobs.Succeeded, 2, 3, 4, 20, 21))
	var conflict *jobs.ConflictError
	if !errors.As(err, &conflict) {
		t.Fatalf("Commit() = %v, want a conflict", err)
	}
	if want := []bool{false, true, false, true, false}; !slices.Equal(conflict.Final, want) {
		t.Errorf("final %v, want %v", conflict.Final, want)
	}
	if got := stored(t, conn, bus.EventsFilter(pool)); len(got) != 1 {
		t.Errorf("events %v, want only the winner's", got)
	}
}
