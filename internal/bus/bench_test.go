package bus_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
)

// BenchmarkReceiveAndAck is the way of a job through the source, 256 bytes without headers.
// Allocations are those of client and embedded server together.
func BenchmarkReceiveAndAck(b *testing.B) {
	conn := connect(b, startServer(b))
	setup := ensure(b, conn, streams())
	source := bus.NewSource(conn, setup, nopLog())
	intake, stop := context.WithCancel(context.Background())
	end := runSource(b, source)
	defer func() {
		stop()
		closeSource(b, source)
		end()
	}()
	body := []byte(strings.Repeat("x", 256))
	const refill = 8192
	published := 0
	fill := func() {
		for range refill {
			if err := conn.NATS().Publish("jobs.a", body); err != nil {
				b.Fatal(err)
			}
		}
		published += refill
		if err := conn.NATS().Flush(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if n++; n > published {
			b.StopTimer()
			fill()
			b.StartTimer()
		}
		if n%1024 != 1 {
			continue // received with the first of its thousand
		}
		for got := 0; got < 1024; {
			chunk, err := source.Receive(intake, jobs.Room{Jobs: 1024 - got, Bytes: 64 << 20})
			if err != nil {
				b.Fatal(err)
			}
			for i := range chunk {
				if err := source.Ack(&chunk[i]); err != nil {
					b.Fatal(err)
				}
			}
			got += len(chunk)
		}
	}
}

// BenchmarkCommit commits batches of 96 jobs, eight at a time, as one replica does.
func BenchmarkCommit(b *testing.B) {
	conn := connect(b, startServer(b))
	ensure(b, conn, streams())
	l := runLedger(b, bus.NewDoneStore(conn))
	const size, atOnce = 96, 8
	var wg sync.WaitGroup
	tokens := make(chan struct{}, atOnce)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		tokens <- struct{}{}
		s := ledgertest.Settlement(fmt.Sprintf("b%d", n), jobs.Succeeded, ledgertest.Span(uint64(n*size+1), uint64((n+1)*size+1))...)
		n++
		wg.Go(func() {
			defer func() { <-tokens }()
			if err := l.Commit(context.Background(), s); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(n*size)/b.Elapsed().Seconds(), "jobs/s")
}

// BenchmarkCommitOfOnePage compares the smallest commit, one page and one event, with two fenced
// plain publishes one after the other; see docs/adr/0008-atomic-commits-stay.md.
func BenchmarkCommitOfOnePage(b *testing.B) {
	writes := func(n int, page uint64) []ledger.Write {
		return []ledger.Write{
			{Subject: "done.ledger.bench.page.JOBS.e.0.1", Expect: page, Data: make([]byte, 16)},
			{Subject: fmt.Sprintf("done.batches.bench.succeeded.%d", n), Data: make([]byte, 700), ContentType: jobs.MediaEvent},
		}
	}
	b.Run("atomic", func(b *testing.B) {
		conn := connect(b, startServer(b))
		ensure(b, conn, streams())
		store := bus.NewDoneStore(conn)
		n, page := 0, uint64(0)
		for b.Loop() {
			n++
			first, err := store.Apply(b.Context(), writes(n, page))
			if err != nil {
				b.Fatal(err)
			}
			page = first
		}
	})
	b.Run("fenced", func(b *testing.B) {
		conn := connect(b, startServer(b))
		ensure(b, conn, streams())
		js := jetStream(b, conn)
		n, page := 0, uint64(0)
		for b.Loop() {
			n++
			for i, w := range writes(n, page) {
				ack, err := js.Publish(b.Context(), w.Subject, w.Data, jetstream.WithExpectLastSequencePerSubject(w.Expect))
				if err != nil {
					b.Fatal(err)
				}
				if i == 0 {
					page = ack.Sequence
				}
			}
		}
	})
}
