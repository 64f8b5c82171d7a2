package bus_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
)

// runLedger returns a ledger whose committer runs until the test ends.
func runLedger(t testing.TB, store ledger.Store) *ledger.Ledger {
	t.Helper()
	return ledgertest.Run(t, ledger.New(store, ledgerConfig(), nopLog()))
}

// ledgerConfig is that of the test pool.
func ledgerConfig() ledger.Config {
	c := ledgertest.Config()
	c.EventSubject, c.EventTTL = bus.EventSubject, 24*time.Hour
	return c
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

func TestCommitStoresPagesAndEvent(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	l := runLedger(t, bus.NewDoneStore(conn))

	s := ledgertest.Settlement("b1", jobs.Succeeded, ledgertest.Span(1, 41)...)
	s.Rulings[4] = jobs.Ruling{Outcome: jobs.Retrying, Burnt: true, OK: []string{"billing"}}
	if err := l.Commit(patient(t), s); err != nil {
		t.Fatal(err)
	}
	if got := stored(t, conn, bus.EventsFilter(pool)); len(got) != 1 || got["done.batches.test.succeeded.b1"] != 1 {
		t.Errorf("events %v, want the one of b1", got)
	}
	if got := stored(t, conn, ledgertest.Names().Pages()); len(got) != 3 || got["done.ledger.test.page.JOBS.e1.0.2"] != 1 {
		t.Errorf("pages %v, want 0, 1 and 2 of bucket 0", got)
	}
	fresh := runLedger(t, bus.NewDoneStore(conn))
	got := ledgertest.Records(t, fresh, 1, 5, 40, 41, 1000)
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
		l := runLedger(t, bus.NewDoneStore(conn))
		for b := range batches {
			wg.Go(func() {
				// Neighbouring batches overlap by half, and every replica does all of them.
				id := fmt.Sprintf("r%db%d", r, b)
				seqs, err := ledgertest.CommitAll(ctx, l, ledgertest.Settlement(id, jobs.Succeeded, ledgertest.Span(uint64(b*size/2+1), uint64(b*size/2+1+size))...))
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
	winner, loser := runLedger(t, bus.NewDoneStore(conn)), runLedger(t, bus.NewDoneStore(conn))
	ctx := patient(t)
	if err := winner.Commit(ctx, ledgertest.Settlement("w", jobs.Succeeded, 3, 20)); err != nil {
		t.Fatal(err)
	}
	err := loser.Commit(ctx, ledgertest.Settlement("l", jobs.Succeeded, 2, 3, 4, 20, 21))
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
