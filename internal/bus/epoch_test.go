package bus_test

import (
	"testing"
	"time"

	"rollcall/internal/bus"
)

// remake deletes the job stream, with all that is known of its jobs, and makes it again.
func remake(t testing.TB, conn *bus.Conn) {
	t.Helper()
	if err := jetStream(t, conn).DeleteStream(t.Context(), "JOBS"); err != nil {
		t.Fatal(err)
	}
	ensure(t, conn, streams())
}

// TestSettlementsOfADeletedStreamRemoveNothing: the server settles by sequence alone, and a
// stream that was made again begins at 1. The replica that holds jobs of the old one has no
// pull open, so nothing reports it.
func TestSettlementsOfADeletedStreamRemoveNothing(t *testing.T) {
	t.Parallel()
	const n = 8
	s := startServer(t)
	conn, other := connect(t, s), connect(t, s)
	setup := ensure(t, other, streams())
	publish(t, other, "jobs.a", numbered(n)...)
	stale, intake, _ := openSource(t, setup, conn)
	old := receive(t, intake, stale, n)

	remake(t, other)
	publish(t, other, "jobs.a", numbered(n)...)
	fresh, intake2, _ := openSource(t, bus.NewSetup(other, streams(), pool), other)
	held := receive(t, intake2, fresh, n)
	heard, err := other.NATS().SubscribeSync("$JS.ACK.JOBS." + pool + ".>")
	if err != nil {
		t.Fatal(err)
	}
	if err := other.NATS().Flush(); err != nil {
		t.Fatal(err)
	}

	stale.ForgetProof() // it is seconds until a stream is made again
	_ = stale.Ack(&old[0])
	_ = stale.Nak(&old[1], time.Minute)
	ackAll(t, stale, old[2:])
	eventually(t, "the source has seen that the stream is another one", func() bool { return stale.Extend(&old[0]) != nil })
	if err := conn.NATS().FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := heard.NextMsg(10 * time.Millisecond)
		if err != nil {
			break
		}
		if string(m.Data) != "+WPI" {
			t.Errorf("%q of an old job reached the new stream", m.Data)
		}
	}
	if left := jobsLeft(t, other); left != n {
		t.Fatalf("%d of %d new jobs are left", left, n)
	}
	ackAll(t, fresh, held)
	eventually(t, "the new jobs are settled", func() bool { return jobsLeft(t, other) == 0 })
}

// TestSettlementsOutliveAReconnect: while the source looks whether the stream is still the
// same, what is settled waits and is not lost.
func TestSettlementsOutliveAReconnect(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	source, intake, _ := openSource(t, ensure(t, conn, streams()), conn)
	publish(t, conn, "jobs.a", numbered(4)...)
	held := receive(t, intake, source, 4)
	if err := conn.NATS().ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "connected again", func() bool { return conn.Reconnects() == 1 && conn.Healthy() == nil })
	ackAll(t, source, held)
	eventually(t, "the jobs are settled", func() bool { return jobsLeft(t, conn) == 0 })
}
