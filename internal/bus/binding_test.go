package bus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// keepReceiving acks everything that arrives until the test ends, and sends it on.
func keepReceiving(t testing.TB, intake context.Context, source *bus.Source) <-chan jobs.Delivery {
	t.Helper()
	arrived := make(chan jobs.Delivery, 1024)
	go func() {
		for {
			chunk, err := source.Receive(intake, jobs.Room{Jobs: 64, Bytes: 8 << 20})
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					t.Errorf("Receive() = %v, want the cause of the intake's end", err)
				}
				close(arrived)
				return
			}
			for i := range chunk {
				if err := source.Ack(&chunk[i]); err != nil {
					t.Error(err)
				}
				arrived <- chunk[i]
			}
		}
	}()
	return arrived
}

func next(t testing.TB, arrived <-chan jobs.Delivery) jobs.Delivery {
	t.Helper()
	select {
	case d := <-arrived:
		return d
	case <-time.After(patience):
		t.Fatal("no job arrived")
		panic("unreachable")
	}
}

func TestADeletedConsumerIsMadeAgain(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	source, intake, _ := openSource(t, setup, conn)
	arrived := keepReceiving(t, intake, source)
	publish(t, conn, "jobs.a", numbered(1)...)
	before := next(t, arrived)
	eventually(t, "the first job is acked", func() bool { return jobsLeft(t, conn) == 0 })

	if err := jetStream(t, conn).DeleteConsumer(t.Context(), "JOBS", pool); err != nil {
		t.Fatal(err)
	}
	publish(t, conn, "jobs.a", numbered(1)...)
	after := next(t, arrived)
	if after.Ref.Epoch != before.Ref.Epoch || after.Ref.Seq != before.Ref.Seq+1 {
		t.Errorf("job %s after %s: the stream is the same, so its epoch is", after.Ref.UID(), before.Ref.UID())
	}
	eventually(t, "the source is healthy again", func() bool { return source.Healthy() == nil })
}

func TestARecreatedStreamIsNewWork(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	source, intake, _ := openSource(t, setup, conn)
	arrived := keepReceiving(t, intake, source)
	publish(t, conn, "jobs.a", numbered(3)...)
	old := make(map[string]bool)
	for range 3 {
		d := next(t, arrived)
		old[d.Ref.UID()] = true
	}

	js := jetStream(t, conn)
	if err := js.DeleteStream(t.Context(), "JOBS"); err != nil {
		t.Fatal(err)
	}
	ensure(t, conn, streams())
	publish(t, conn, "jobs.a", numbered(3)...)
	stream, err := js.Stream(t.Context(), "JOBS")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		d := next(t, arrived)
		if old[d.Ref.UID()] {
			t.Errorf("job %s of the new stream has the uid of an old one", d.Ref.UID())
		}
		if want := jobs.Epoch(stream.CachedInfo().Created); d.Ref.Epoch != want || d.Source != "/rollcall/JOBS/"+want {
			t.Errorf("epoch %s, source %s, want %s", d.Ref.Epoch, d.Source, want)
		}
	}
}

// TestARecreatedStreamBehindALostConnection recreates everything while the source is cut
// off, so that nothing reports it: neither a status nor a reply.
func TestARecreatedStreamBehindALostConnection(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	other, conn := connect(t, s), connect(t, s)
	setup := ensure(t, conn, streams())
	source, intake, _ := openSource(t, setup, conn)
	arrived := keepReceiving(t, intake, source)
	publish(t, other, "jobs.a", numbered(3)...)
	for range 3 {
		next(t, arrived)
	}
	js := jetStream(t, other)
	if err := conn.NATS().ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), "JOBS"); err != nil {
		t.Fatal(err)
	}
	ensure(t, other, streams())
	publish(t, other, "jobs.a", numbered(3)...)
	stream, err := js.Stream(t.Context(), "JOBS")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if d, want := next(t, arrived), jobs.Epoch(stream.CachedInfo().Created); d.Ref.Epoch != want {
			t.Errorf("job %s was handed out under an old epoch, want %s", d.Ref.UID(), want)
		}
	}
}

// TestSequencesRunningBackwardsHoldDeliveries: the one sign of a recreated consumer that
// needs neither a status nor a reconnect.
func TestSequencesRunningBackwardsHoldDeliveries(t *testing.T) {
	t.Parallel()
	b := bus.Bound("old", 10)
	var d jobs.Delivery
	if !b.Admit(&d, 11) || !b.Admit(&d, 15) || d.Ref.Epoch != "old" {
		t.Fatal("deliveries in sequence are not handed out")
	}
	d = jobs.Delivery{}
	if b.Admit(&d, 1) || b.Admit(&d, 2) || d.Ref.Epoch != "" || b.Held() != 2 {
		t.Errorf("after 15 came 1, and %d deliveries are held; want both, unstamped", b.Held())
	}
}

func TestAMissingStreamIsWaitedForWhenItMayNotBeMade(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	s := streams()
	s.Ensure = false
	setup := bus.NewSetup(conn, s, pool)
	if _, _, err := setup.Ensure(t.Context()); !errors.Is(err, bus.ErrMissing) {
		t.Fatalf("Ensure() = %v, want ErrMissing", err)
	}
	source, intake, _ := openSource(t, setup, conn)
	arrived := keepReceiving(t, intake, source)
	eventually(t, "the source says what is missing", func() bool { return errors.Is(source.Healthy(), bus.ErrMissing) })

	ensure(t, conn, streams())
	publish(t, conn, "jobs.a", numbered(1)...)
	next(t, arrived)
	if err := source.Healthy(); err != nil {
		t.Errorf("Healthy() = %v, want nil", err)
	}
}

func TestAClosedConnectionEndsTheIntake(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	source := bus.NewSource(conn, setup, nopLog())
	intake, stop := context.WithCancel(context.Background())
	defer stop()
	defer runSource(t, source)()
	failed := make(chan error, 1)
	go func() {
		_, err := source.Receive(intake, jobs.Room{Jobs: 64, Bytes: 8 << 20})
		failed <- err
	}()
	eventually(t, "the source is bound", func() bool { return source.Healthy() == nil })
	conn.NATS().Close()
	select {
	case err := <-failed:
		if !errors.Is(err, bus.ErrClosed) || !errors.Is(err, nats.ErrConnectionClosed) {
			t.Errorf("Receive() = %v, want ErrClosed and the reason", err)
		}
	case <-time.After(patience):
		t.Fatal("Receive still blocks on a closed connection")
	}
	if err := source.Close(t.Context()); err != nil {
		t.Errorf("Close() = %v, want nil: there is nothing left to close", err)
	}
}
