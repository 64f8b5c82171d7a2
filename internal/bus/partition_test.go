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
)

// connectThrough returns a connection to a server that goes through a proxy.
func connectThrough(t testing.TB, url string) (*bus.Conn, *faulttest.Proxy) {
	t.Helper()
	proxy, err := faulttest.NewProxy(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	conn, err := bus.Connect(t.Context(), bus.Config{URL: "nats://" + proxy.Addr()}, t.Name(), nopLog())
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
