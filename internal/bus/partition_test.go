package bus_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"rollcall/internal/bus"
	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
)

// connectThrough returns a connection to a server that goes through a proxy.
func connectThrough(t testing.TB, url string) (*bus.Conn, *faulttest.Proxy) {
	t.Helper()
	return connectThroughWith(t, url, bus.Config{})
}

// connectThroughWith is connectThrough with some settings.
func connectThroughWith(t testing.TB, url string, cfg bus.Config) (*bus.Conn, *faulttest.Proxy) {
	t.Helper()
	proxy, err := faulttest.NewProxy(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	cfg.URL = "nats://" + proxy.Addr()
	conn, err := bus.Connect(t.Context(), cfg, t.Name(), nopLog())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn, proxy
}

// giveUp sends everything that a replica sends and that must not arrive after it was given up:
// a request, as commits and service calls are, a message without a reply, as acks are, and a
// dead letter. It returns once each has failed or was given up.
func giveUp(t *testing.T, conn *bus.Conn, body []byte) {
	t.Helper()
	short := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	if _, err := conn.NATS().RequestMsgWithContext(short(), &nats.Msg{Subject: "late.commit", Data: body}); err == nil {
		t.Error("a request was answered although the line is dead")
	}
	_ = conn.NATS().Publish("late.ack", body) // whether that fails now or is dropped later is the same
	letter := jobs.DeadLetter{
		Job: &jobs.Job{Delivery: jobs.Delivery{Subject: "late", Data: body, UID: "e.1"}}, BatchID: "b",
		Ruling: &jobs.Ruling{},
	}
	if err := bus.NewDeadLetters(conn, pool, nopLog()).Publish(short(), []jobs.DeadLetter{letter}); err == nil {
		t.Error("a dead letter was confirmed although the line is dead")
	}
}

// lateArrivals counts what reaches the server on the subjects that giveUp sends to.
func lateArrivals(t *testing.T, conn *bus.Conn) *nats.Subscription {
	t.Helper()
	sub, err := conn.NATS().SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	return sub
}

func checkNothingLate(t *testing.T, conn, other *bus.Conn, heard *nats.Subscription) {
	t.Helper()
	eventually(t, "the line is back", func() bool { return conn.Healthy() == nil })
	for _, c := range []*bus.Conn{conn, other} {
		if err := c.NATS().FlushTimeout(patience); err != nil {
			t.Fatal(err)
		}
	}
	for {
		m, err := heard.NextMsg(time.Millisecond)
		if err != nil {
			return
		}
		if bytes.HasPrefix([]byte(m.Subject), []byte("late.")) || bytes.HasPrefix([]byte(m.Subject), []byte("dead.")) {
			t.Errorf("%s arrived although it had been given up before the line came back", m.Subject)
		}
	}
}

// TestNothingGivenUpIsSentAfterAReconnect: a commit that was given up during an outage must
// not reach the broker after it. Its page may have been swept by then, so its expectation to
// be the first would hold, and the job would be final in two events.
func TestNothingGivenUpIsSentAfterAReconnect(t *testing.T) {
	t.Parallel()
	s := startServer(t, overTCP)
	other := connect(t, s)
	conn, proxy := connectThrough(t, s.Addr().String())
	heard := lateArrivals(t, other)
	proxy.Cut()
	eventually(t, "the loss is noticed", func() bool { return conn.Healthy() != nil })
	giveUp(t, conn, []byte("late"))
	proxy.Heal()
	checkNothingLate(t, conn, other, heard)
}

// TestNothingGivenUpIsSentAfterAPartition: no reset comes through a partition, so what was
// sent waits in the kernel's buffer, and closing the socket in the usual way would leave it to
// the kernel to deliver it minutes later.
func TestNothingGivenUpIsSentAfterAPartition(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"small": 4, "more than the buffers hold": 900 << 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, overTCP)
			other := connect(t, s)
			conn, proxy := connectThrough(t, s.Addr().String())
			heard := lateArrivals(t, other)
			proxy.Blackhole()
			for range 8 {
				giveUp(t, conn, make([]byte, size))
			}
			eventually(t, "the partition is noticed", func() bool { return conn.Healthy() != nil })
			proxy.Heal()
			checkNothingLate(t, conn, other, heard)
		})
	}
}

// TestACommitArrivesBeforeTheHorizonOrNever: beyond the horizon a commit that is under way would be
// taken for the first. So a line that carries nothing, or only answers no commit any more, is cut
// within half of it, and nothing of what was sent arrives when the partition ends.
func TestACommitArrivesBeforeTheHorizonOrNever(t *testing.T) {
	t.Parallel()
	const horizon = 4 * time.Second
	for name, stopped := range map[string][]faulttest.Direction{
		"both ways are dead": nil, "nothing is sent": {faulttest.Up},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, overTCP)
			other := connect(t, s)
			ensure(t, other, streams())
			conn, proxy := connectThroughWith(t, s.Addr().String(), bus.Config{Horizon: horizon})
			if _, err := conn.NATS().SubscribeSync("chatter"); err != nil {
				t.Fatal(err)
			}
			if err := conn.NATS().Flush(); err != nil { // the server knows of it
				t.Fatal(err)
			}
			before := doneStored(t, other)
			store := bus.NewDoneStore(conn)
			proxy.Blackhole(stopped...)
			sent := time.Now()
			if _, err := store.Apply(t.Context(), []ledger.Write{{Subject: "done.ledger." + pool + ".page.JOBS.e.0.0", Data: []byte("late")}}); err == nil {
				t.Fatal("a commit was confirmed although it cannot have arrived")
			}
			eventually(t, "the line is cut", func() bool {
				_ = other.NATS().Publish("chatter", nil) // what comes in does not show that anything goes out
				return conn.Healthy() != nil
			})
			// Pings alone would end it as well, when the horizon has just passed.
			if took := time.Since(sent); took > horizon*3/4 {
				t.Errorf("the line was cut after %v, want it within half of the horizon of %v, and a second for a busy machine", took, horizon)
			}
			proxy.Heal()
			eventually(t, "the line is back", func() bool { return conn.Healthy() == nil })
			if err := conn.NATS().FlushTimeout(patience); err != nil {
				t.Fatal(err)
			}
			if after := doneStored(t, other); after != before {
				t.Errorf("%d messages were stored after the commit was given up", after-before)
			}
		})
	}
}

// doneStored is the last sequence of the stream of events and ledger.
func doneStored(t *testing.T, conn *bus.Conn) uint64 {
	t.Helper()
	stream, err := conn.JetStream().Stream(t.Context(), bus.StreamDone)
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.LastSeq
}
