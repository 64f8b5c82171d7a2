package bus_test

import (
	"context"
	"testing"

	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// openSource returns a source and its intake context; both end with the test.
func openSource(t testing.TB, setup *bus.Setup, conn *bus.Conn) (*bus.Source, context.Context, context.CancelFunc) {
	t.Helper()
	source := bus.NewSource(conn, setup, zerolog.Nop())
	intake, stop := context.WithCancel(t.Context())
	t.Cleanup(func() {
		stop()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := source.Close(ctx); err != nil {
			t.Errorf("close the source: %v", err)
		}
	})
	return source, intake, stop
}

// receive collects n deliveries within one room of n.
func receive(t testing.TB, ctx context.Context, source *bus.Source, n int) []jobs.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var all []jobs.Delivery
	for len(all) < n {
		chunk, err := source.Receive(ctx, jobs.Room{Jobs: n - len(all), Bytes: 8 << 20})
		if err != nil {
			t.Fatalf("after %d of %d deliveries: %v", len(all), n, err)
		}
		all = append(all, chunk...)
	}
	return all
}

func TestSourceHandsOutEveryJobOnce(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	publish(t, conn, "jobs.a", numbered(1000)...)
	source, intake, _ := openSource(t, setup, conn)

	seen := make(map[uint64]bool)
	for _, d := range receive(t, intake, source, 1000) {
		if seen[d.Ref.Seq] {
			t.Fatalf("job %d was handed out twice", d.Ref.Seq)
		}
		seen[d.Ref.Seq] = true
		if d.Subject != "jobs.a" || d.Delivered != 1 || len(d.Data) != 1 || d.Ref.Epoch == "" {
			t.Fatalf("unexpected delivery %+v", d)
		}
		if err := source.Ack(&d); err != nil {
			t.Fatal(err)
		}
	}
	js := jetStream(t, conn)
	eventually(t, "acked jobs leave the stream", func() bool {
		stream, err := js.Stream(t.Context(), "JOBS")
		return err == nil && stream.CachedInfo().State.Msgs == 0
	})
	if err := source.Healthy(); err != nil {
		t.Errorf("Healthy() = %v, want nil", err)
	}
}
