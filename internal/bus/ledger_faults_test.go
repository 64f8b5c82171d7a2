package bus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
)

// tamper is a PageStore whose Apply can be watched and whose answers can be lost.
type tamper struct {
	ledger.Store
	applied func(writes []ledger.Write, err error) error
}

func (s tamper) Apply(ctx context.Context, writes []ledger.Write) (uint64, error) {
	first, err := s.Store.Apply(ctx, writes)
	return first, s.applied(writes, err)
}

func TestNeighboursOnAPageAreNoConflict(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	var refused atomic.Int64
	var wg sync.WaitGroup
	for offset := range uint64(jobs.PageSize) {
		store := tamper{bus.NewDoneStore(conn), func(_ []ledger.Write, err error) error {
			if errors.Is(err, ledger.ErrStale) {
				refused.Add(1)
			}
			return err
		}}
		l := runLedger(t, store)
		wg.Go(func() {
			// Its own offset on each of three pages: nobody else's jobs, everybody's pages.
			s := ledgertest.Settlement(fmt.Sprintf("b%d", offset), jobs.Succeeded, offset, offset+jobs.PageSize, offset+2*jobs.PageSize)
			if err := l.Commit(patient(t), s); err != nil {
				t.Errorf("commit of offset %d: %v", offset, err)
			}
		})
	}
	wg.Wait()
	if refused.Load() == 0 {
		t.Error("no commit was refused: the test proves nothing")
	}
	for seq, r := range ledgertest.Records(t, runLedger(t, bus.NewDoneStore(conn)), ledgertest.Span(0, 3*jobs.PageSize)...) {
		if !r.Final {
			t.Errorf("job %d is not final: a neighbour overwrote it", seq)
		}
	}
}

func TestALostAnswerOnARealServer(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	n := 0
	l := runLedger(t, tamper{bus.NewDoneStore(conn), func(_ []ledger.Write, err error) error {
		if n++; n == 1 && err == nil {
			return errors.New("the answer is lost")
		}
		return err
	}})
	s := ledgertest.Settlement("b1", jobs.Retrying, 1, 2)
	s.Rulings[0] = jobs.Ruling{Outcome: jobs.Succeeded}
	if err := l.Commit(patient(t), s); err != nil {
		t.Fatal(err)
	}
	if n != 1 {
		t.Errorf("the batch was published %d times, want once", n)
	}
	if got := ledgertest.Records(t, l, 1, 2); !got[0].Final || got[1].Attempts != 1 {
		t.Errorf("records %+v, want the first final and one attempt of the second", got)
	}
}

// stage sends a message of an atomic publish by hand, as a worker does that dies before the
// rest, and waits until the server has it.
func stage(t *testing.T, conn *bus.Conn, id, seq string, header ...string) {
	t.Helper()
	m := nats.NewMsg(bus.EventSubject(pool, jobs.BatchSucceeded, id+seq))
	m.Header.Set("Nats-Batch-Id", id)
	m.Header.Set("Nats-Batch-Sequence", seq)
	for _, name := range header {
		m.Header.Set(name, "1")
	}
	if _, err := conn.NATS().RequestMsg(m, patience); err != nil {
		t.Fatal(err)
	}
}

// TestTooManyOpenCommitsAreTriedAgain fills the server's limit on open commits, which is 50
// unless set otherwise, and frees it once somebody was refused.
func TestTooManyOpenCommitsAreTriedAgain(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t, func(o *server.Options) { o.JetStreamLimits.MaxBatchInflightPerStream = 2 }))
	ensure(t, conn, streams())
	stage(t, conn, "one", "1")
	stage(t, conn, "two", "1")

	const committers = 60
	busy := make(chan struct{}, 10_000)
	var wg sync.WaitGroup
	for r := range committers {
		l := runLedger(t, tamper{bus.NewDoneStore(conn), func(_ []ledger.Write, err error) error {
			if errors.Is(err, ledger.ErrBusy) {
				busy <- struct{}{}
			}
			return err
		}})
		wg.Go(func() {
			from := uint64(r * 100)
			if err := l.Commit(patient(t), ledgertest.Settlement(fmt.Sprintf("b%d", r), jobs.Succeeded, ledgertest.Span(from, from+100)...)); err != nil {
				t.Errorf("committer %d: %v", r, err)
			}
		})
	}
	for range committers {
		<-busy
	}
	stage(t, conn, "one", "2", "Nats-Batch-Commit")
	stage(t, conn, "two", "2", "Nats-Batch-Commit")
	wg.Wait()
	if got := stored(t, conn, bus.EventsFilter(pool)); len(got) != committers+4 {
		t.Errorf("%d events, want those of %d committers and the four made by hand", len(got), committers)
	}
}

func TestOnlyWhatIsCommittedIsRepublished(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	heard, err := conn.NATS().SubscribeSync(bus.BatchesFilter(pool))
	if err != nil {
		t.Fatal(err)
	}
	stage(t, conn, "half", "1")
	l := runLedger(t, bus.NewDoneStore(conn))
	whole := ledgertest.Settlement("whole", jobs.Succeeded, 1)
	whole.Batch.Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	if err := l.Commit(patient(t), whole); err != nil {
		t.Fatal(err)
	}
	m, err := heard.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	if m.Subject != "batches.test.succeeded.whole" || !bytes.Equal(m.Data, whole.Event) {
		t.Errorf("heard %s with %q first, want the committed event", m.Subject, m.Data)
	}
	if got := m.Header.Get("Content-Type"); got != "application/cloudevents+json" {
		t.Errorf("Content-Type %q, want a structured CloudEvent", got)
	}
	if got := m.Header.Get("traceparent"); got != whole.Batch.Traceparent {
		t.Errorf("traceparent %q, want that of the batch", got)
	}
	if n, _, err := heard.Pending(); n != 0 || err != nil {
		t.Errorf("%d more messages were heard, %v", n, err)
	}
}

func TestPagesAndEventsHaveTimesToLive(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	if err := runLedger(t, bus.NewDoneStore(conn)).Commit(patient(t), ledgertest.Settlement("b1", jobs.Succeeded, 1)); err != nil {
		t.Fatal(err)
	}
	stream, err := jetStream(t, conn).Stream(t.Context(), bus.StreamDone)
	if err != nil {
		t.Fatal(err)
	}
	for subject, want := range map[string]string{"done.ledger.test.page.JOBS.e1.0.0": "3600", "done.batches.test.succeeded.b1": "86400"} {
		m, err := stream.GetLastMsgForSubject(t.Context(), subject)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Header.Get(jetstream.MsgTTLHeader); got != want {
			t.Errorf("%s lives %q seconds, want %q", subject, got, want)
		}
	}
}

func TestMorePagesThanOneReadGives(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	l := runLedger(t, bus.NewDoneStore(conn))
	const pages = 2500
	var seqs []uint64
	for n := range uint64(pages) {
		seqs = append(seqs, n*jobs.PageSize)
	}
	var wg sync.WaitGroup
	for from := 0; from < pages; from += 500 {
		wg.Go(func() {
			if err := l.Commit(patient(t), ledgertest.Settlement(fmt.Sprintf("b%d", from), jobs.Succeeded, seqs[from:from+500]...)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, r := range ledgertest.Records(t, runLedger(t, bus.NewDoneStore(conn)), seqs...) {
		if !r.Final {
			t.Fatalf("job %d is not known to be final", seqs[i])
		}
	}
}

// TestASetOfMoreLanesThanOneReadGives: the broker gives up to 1,024 messages for wildcards.
func TestASetOfMoreLanesThanOneReadGives(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	store := bus.NewUpkeep(conn, bus.NewSetup(conn, streams(), pool))
	tally, err := jobs.SetTally{Counts: jobs.SetCounts{Total: 1, Succeeded: 1}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	const lanes = 1500
	var writes []ledger.Write
	for n := range lanes {
		writes = append(writes, ledger.Write{Subject: fmt.Sprintf("done.ledger.%s.set.import.r%d", pool, n), Data: tally})
	}
	for group := range slices.Chunk(writes, ledger.MaxGroup) {
		if _, err := store.Apply(patient(t), group); err != nil {
			t.Fatal(err)
		}
	}
	state, err := ledger.ReadSet(patient(t), store, ledger.Names{Pool: pool, Stream: "JOBS"}, "import")
	if err != nil || state.Tally.Counts.Total != lanes {
		t.Errorf("%d members, %v; want %d", state.Tally.Counts.Total, err, lanes)
	}
}

func TestAnEventOverMaxPayloadIsRefused(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	l := runLedger(t, bus.NewDoneStore(conn))
	s := ledgertest.Settlement("b1", jobs.Succeeded, 1)
	s.Event = make([]byte, 2<<20)
	if err := l.Commit(patient(t), s); !errors.Is(err, ledger.ErrRefused) {
		t.Errorf("Commit() = %v, want ErrRefused", err)
	}
	if err := l.Commit(patient(t), ledgertest.Settlement("b2", jobs.Succeeded, 1)); err != nil {
		t.Errorf("the commit after a refused one ended with %v", err)
	}
}

func TestAMissingDoneStreamIsWaitedFor(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	l := runLedger(t, bus.NewDoneStore(conn))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := l.Commit(ctx, ledgertest.Settlement("b1", jobs.Succeeded, 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Commit() = %v, want the end of its context", err)
	}
	if _, err := l.Load(ctx, []jobs.Ref{{Epoch: ledgertest.Epoch, Seq: 1}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Load() = %v, want the end of its context", err)
	}
	ensure(t, conn, streams())
	if err := l.Commit(patient(t), ledgertest.Settlement("b2", jobs.Succeeded, 1)); err != nil {
		t.Error(err)
	}
}
