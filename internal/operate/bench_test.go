package operate_test

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/bus/bustest"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger/ledgertest"
	"rollcall/internal/operate"
)

var storedEvents = flag.Int("events", 2000, "how many events BenchmarkFindAJobByItsID stores")

// BenchmarkFindAJobByItsID looks for the job that ended first, so that all events since are read.
func BenchmarkFindAJobByItsID(b *testing.B) {
	conn := bustest.Connect(b, bustest.StartServer(b))
	bustest.Ensure(b, conn, bustest.Streams())
	const each = 20
	js, err := conn.NewJetStream(jetstream.WithPublishAsyncMaxPending(1000))
	if err != nil {
		b.Fatal(err)
	}
	for n := range *storedEvents {
		s := ledgertest.Settlement(fmt.Sprint("b", n), jobs.Succeeded, ledgertest.Span(uint64(n*each), uint64((n+1)*each))...)
		for i, j := range s.Batch.Jobs {
			j.ID = fmt.Sprintf("invoice-2026-%d", n*each+i)
		}
		s.SettledAt = time.Now()
		s.EncodeEvent(1 << 20)
		if _, err := js.PublishAsync(bus.EventSubject(bustest.Pool, jobs.BatchSucceeded, s.Batch.ID), s.Event, jetstream.WithStallWait(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	admin := operate.NewAdmin(conn, bustest.Streams(), bustest.Pool)
	for b.Loop() {
		report, err := admin.Job(b.Context(), "invoice-2026-0")
		if err != nil || report.State != operate.JobFinal {
			b.Fatalf("%+v, %v", report, err)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/float64(*storedEvents)*1e6, "s/1M-events")
}
