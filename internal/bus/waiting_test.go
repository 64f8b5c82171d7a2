package bus_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// TestALeaseIsExtendedBeforeTheJobIsHandedOut: a pull may bring more bytes than the pool has
// room for, and what it brings arrives after the pool has stopped asking. The jobs wait in the
// source until a batch has ended, and that may take longer than their lease.
func TestALeaseIsExtendedBeforeTheJobIsHandedOut(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	s := streams()
	s.AckWait = 3 * time.Second
	setup := ensure(t, conn, s)
	source, intake, _ := openSource(t, setup, conn)
	leaveTwoWaiting(t, conn, source, intake)
	settlements, err := conn.NATS().SubscribeSync("$JS.ACK.JOBS." + pool + ".>")
	if err != nil {
		t.Fatal(err)
	}

	for extended := range 8 { // two jobs, four thirds of the lease
		m, err := settlements.NextMsg(patience)
		if err != nil {
			t.Fatalf("%d extensions, then %v", extended, err)
		}
		if string(m.Data) != "+WPI" || !strings.HasPrefix(m.Subject, "$JS.ACK.JOBS."+pool+".1.") {
			t.Fatalf("%q to %s, want an extension of a first delivery", m.Data, m.Subject)
		}
	}
	for _, d := range receive(t, intake, source, 2) {
		if held := time.Since(d.Received); d.Delivered != 1 || held > s.AckWait {
			t.Errorf("delivery %d, whose lease counts from %v ago", d.Delivered, held)
		}
	}
}

// leaveTwoWaiting returns when two jobs have reached the source that nobody has received.
func leaveTwoWaiting(t testing.TB, conn *bus.Conn, source *bus.Source, intake context.Context) {
	t.Helper()
	consumer, err := jetStream(t, conn).Consumer(t.Context(), "JOBS", pool)
	if err != nil {
		t.Fatal(err)
	}
	for {
		publish(t, conn, "jobs.a", numbered(1)...)
		first, err := within(t, func() ([]jobs.Delivery, error) {
			return source.Receive(intake, jobs.Room{Jobs: 4, Bytes: 8 << 20})
		})
		if err != nil || len(first) != 1 {
			t.Fatalf("received %d jobs, %v; want one", len(first), err)
		}
		ackAll(t, source, first)
		publish(t, conn, "jobs.a", numbered(2)...)
		var info *jetstream.ConsumerInfo
		eventually(t, "the pull has ended, or brought both jobs", func() bool {
			info, err = consumer.Info(t.Context())
			return err == nil && (info.NumAckPending == 2 && info.NumPending == 0 || info.NumAckPending == 0 && info.NumWaiting == 0)
		})
		if info.NumAckPending == 2 {
			eventually(t, "both have arrived", func() bool { return source.Waiting() == 2 })
			return
		}
		ackAll(t, source, receive(t, intake, source, 2)) // the pull was over before: once more
	}
}
