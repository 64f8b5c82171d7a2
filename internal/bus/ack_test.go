package bus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"rollcall/internal/jobs"
)

func TestANakBringsTheJobBackAndCounts(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	publish(t, conn, "jobs.a", numbered(1)...)
	source, intake, _ := openSource(t, setup, conn)
	for want := 1; want <= 3; want++ {
		d := receive(t, intake, source, 1)[0]
		if d.Delivered != want || d.Ref.Seq != 1 {
			t.Fatalf("delivery %d of job %d, want delivery %d of job 1", d.Delivered, d.Ref.Seq, want)
		}
		if err := source.Nak(&d, time.Duration(want-1)*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnExtendedLeaseKeepsTheJob(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	s := streams()
	s.AckWait = time.Second
	setup := ensure(t, conn, s)
	publish(t, conn, "jobs.a", numbered(1)...)
	source, intake, _ := openSource(t, setup, conn)
	d := receive(t, intake, source, 1)[0]
	redelivered, err := conn.NATS().SubscribeSync("$JS.ACK.JOBS.test.1.>")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := source.Extend(&d); err != nil {
			t.Fatal(err)
		}
		m, err := redelivered.NextMsg(patience)
		if err != nil || string(m.Data) != "+WPI" || m.Subject != d.Reply {
			t.Fatalf("extension %v, %v; want +WPI on %s", m, err, d.Reply)
		}
	}
}

func TestALeaseIsNotExtendedWithoutABroker(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	conn := connect(t, server)
	source, intake, _ := openSource(t, ensure(t, conn, streams()), conn)
	publish(t, conn, "jobs.a", numbered(1)...)
	d := receive(t, intake, source, 1)[0]
	if err := source.Extend(&d); err != nil {
		t.Fatalf("extend: %v", err)
	}
	server.Shutdown()
	server.WaitForShutdown()
	eventually(t, "the connection breaks", func() bool { return conn.Healthy() != nil })
	if err := source.Extend(&d); err == nil {
		t.Error("extended in the client's buffer: the pool would believe that it holds the lease")
	}
}

// TestADrainGivesBackWhatStillArrives stops a source that has asked for more than there is,
// and publishes after that: another source must get the jobs soon, not after AckWait, and they
// must not have come back to the draining source in between, which would count as deliveries.
func TestADrainGivesBackWhatStillArrives(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	s := streams()
	s.AckWait = time.Hour
	setup := ensure(t, conn, s)
	publish(t, conn, "jobs.a", numbered(3)...)
	first, intake, stop := openSource(t, setup, conn)
	got, err := within(t, func() ([]jobs.Delivery, error) {
		return first.Receive(intake, jobs.Room{Jobs: 100, Bytes: 8 << 20})
	})
	if err != nil {
		t.Fatal(err)
	}
	ackAll(t, first, got)
	stop()
	if _, err := first.Receive(intake, jobs.Room{Jobs: 100, Bytes: 8 << 20}); !errors.Is(err, context.Canceled) {
		t.Errorf("Receive() after the soft stop = %v, want its cause", err)
	}
	publish(t, conn, "jobs.a", numbered(20)...)
	closeSource(t, first)

	second, intake2, _ := openSource(t, setup, conn)
	want := 23 - len(got)
	redelivered := 0
	for _, d := range receive(t, intake2, second, want) {
		if d.Delivered > 1 {
			redelivered++
		}
		if d.Delivered > 2 {
			t.Errorf("job %s was handed over %d times, want 2 at most", d.Ref.UID(), d.Delivered)
		}
	}
	if redelivered == 0 {
		t.Error("no job went through the drained source: the test proves nothing")
	}
}
