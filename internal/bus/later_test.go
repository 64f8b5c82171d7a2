package bus_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"rollcall/internal/bus"
)

// delay publishes a delayed job, further headers as pairs.
func delay(t testing.TB, conn *bus.Conn, id, target string, after time.Duration, headers ...string) error {
	t.Helper()
	m := nats.NewMsg(bus.LaterSubject(id))
	m.Data = []byte(id)
	m.Header.Set("Nats-Schedule", "@at "+time.Now().Add(after).UTC().Format(time.RFC3339Nano))
	m.Header.Set("Nats-Schedule-Target", target)
	for i := 0; i+1 < len(headers); i += 2 {
		m.Header.Set(headers[i], headers[i+1])
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := jetStream(t, conn).PublishMsg(ctx, m)
	return err
}

func TestDelayedJobsEnterTheJobStreamWhenDue(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	if err := delay(t, conn, "a", "due.mail.x", 500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := delay(t, conn, "b", "due.mail.x", time.Hour); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the job that is due is in the job stream", func() bool { return stateOf(t, conn, "JOBS").Msgs == 1 })
	stream, err := jetStream(t, conn).Stream(t.Context(), "JOBS")
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), 1)
	if err != nil || m.Subject != "jobs.mail.x" || string(m.Data) != "a" {
		t.Errorf("the job stream holds %+v, %v; want job a on jobs.mail.x", m, err)
	}
}

func TestWhatHasEnteredIsSweptAndWhatWaitsStays(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	for i := range 5 {
		if err := delay(t, conn, strconv.Itoa(i), "due.mail", 300*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	if err := delay(t, conn, "waits", "due.mail", time.Hour); err != nil {
		t.Fatal(err)
	}
	sweeper := bus.NewDueSweeper(conn, setup, zerolog.Nop())
	eventually(t, "LATER holds nothing but the job that waits", func() bool {
		if _, err := sweeper.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		return stateOf(t, conn, bus.StreamLater).Msgs == 1 && stateOf(t, conn, "JOBS").Msgs == 5
	})
}

// A job that did not fit must wait in LATER, whatever is swept meanwhile.
func TestDueJobsWaitWhileTheJobStreamIsFull(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	s := streams()
	setup := ensure(t, conn, s)
	js := jetStream(t, conn)
	editStream(t, conn, "JOBS", func(config *jetstream.StreamConfig) { config.MaxMsgs = 2 })
	if err := delay(t, conn, "first", "due.x", 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first delayed job has entered", func() bool { return stateOf(t, conn, "JOBS").Msgs == 1 })
	publish(t, conn, "jobs.x", numbered(1)...)
	if err := delay(t, conn, "a", "due.x", 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the job is due", func() bool {
		stream, err := js.Stream(t.Context(), bus.StreamLater)
		if err != nil {
			t.Fatal(err)
		}
		m, err := stream.GetLastMsgForSubject(t.Context(), "due.x")
		return err == nil && string(m.Data) == "a"
	})
	sweeper := bus.NewDueSweeper(conn, setup, zerolog.Nop())
	if n, err := sweeper.Sweep(t.Context()); err != nil || n != 1 {
		t.Errorf("Sweep() removed %d, %v; want the one that has entered", n, err)
	}
	stream, err := js.Stream(t.Context(), "JOBS")
	if err == nil {
		err = stream.Purge(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the due job enters", func() bool { return stateOf(t, conn, "JOBS").Msgs == 1 })
}

// Whatever a delayed job carries, it deletes no other job and does not vanish by itself.
func TestHeadersOfDelayedJobsDoNotActOnTheJobStream(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	publish(t, conn, "jobs.x", numbered(20)...)
	if err := delay(t, conn, "rollup", "due.x", 300*time.Millisecond, "Nats-Schedule-Rollup", "sub"); err != nil {
		t.Fatal(err)
	}
	if err := delay(t, conn, "ttl", "due.x", 300*time.Millisecond, "Nats-Schedule-TTL", "1s"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both are in the job stream beside the others", func() bool { return stateOf(t, conn, "JOBS").Msgs == 22 })
	stream, err := jetStream(t, conn).Stream(t.Context(), bus.StreamLater)
	if err != nil {
		t.Fatal(err)
	}
	// The copy in LATER has the TTL, so its end is when a job with a TTL would be gone.
	eventually(t, "the TTL is over", func() bool {
		m, err := stream.GetLastMsgForSubject(t.Context(), "due.x")
		return err != nil || string(m.Data) != "ttl"
	})
	if n := stateOf(t, conn, "JOBS").Msgs; n != 22 {
		t.Errorf("%d jobs are left of 22", n)
	}
}
