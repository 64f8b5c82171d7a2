package bus_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// link is the way to an embedded server, which a test can cut and restore.
type link struct {
	server *server.Server
	cut    atomic.Bool
}

// InProcessConn implements [nats.InProcessConnProvider].
func (l *link) InProcessConn() (net.Conn, error) {
	if l.cut.Load() {
		return nil, errors.New("the link is cut")
	}
	return l.server.InProcessConn()
}

// connectBy returns a connection by a link that is whole.
func connectBy(t testing.TB, l *link) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{URL: "nats://127.0.0.1:4222"}, t.Name(), nopLog(), nats.InProcessServer(l))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

// TestAnOutageDoesNotPileUpPulls: what is asked for while the broker is away must not wait and
// reach the broker all at once: a pull that was written off and still waits is not gone, so
// after a minute a replica would get thirty times what it has room for.
func TestAnOutageDoesNotPileUpPulls(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	way := &link{server: s}
	conn, other := connectBy(t, way), connect(t, s)
	source, intake, _ := openSource(t, ensure(t, other, streams()), conn)
	const room = 16
	got := make(chan []jobs.Delivery, 1)
	go func() {
		first, err := source.Receive(intake, jobs.Room{Jobs: room, Bytes: 8 << 20})
		if err != nil {
			t.Error(err)
		}
		got <- first
	}()
	waitForPulls(t, other, 1)

	way.cut.Store(true)
	if err := conn.NATS().ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection is gone", func() bool { return conn.Healthy() != nil })
	publish(t, other, "jobs.a", numbered(10*room)...)
	for range 5 {
		source.OverduePulls()
	}
	way.cut.Store(false)

	first := <-got
	if len(first) == 0 {
		t.Fatal("no jobs after the outage")
	}
	consumer, err := jetStream(t, other).Consumer(t.Context(), "JOBS", pool)
	if err != nil {
		t.Fatal(err)
	}
	if out := consumer.CachedInfo().NumAckPending; out > room {
		t.Errorf("%d jobs are out after the outage, there is room for %d", out, room)
	}
	ackAll(t, source, first)
}

// TestNothingIsHandedOutBeforeTheReconnectIsKnown: the broker may have lost what it knew of
// its consumer, or be another one. Until the source had a reason to look again, a job that was
// delivered before would count as new, and one of a recreated stream as one of the old.
func TestNothingIsHandedOutBeforeTheReconnectIsKnown(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	way := &link{server: s}
	conn, other := connectBy(t, way), connect(t, s)
	told, goOn := make(chan struct{}), make(chan struct{})
	conn.OnResume(func() {
		close(told)
		<-goOn
	})
	source, intake, _ := openSource(t, ensure(t, other, streams()), conn)
	arrived := keepReceiving(t, intake, source)
	publish(t, other, "jobs.a", numbered(1)...)
	if d := next(t, arrived); !d.First() {
		t.Fatalf("the first delivery counts as a later one: %+v", d)
	}

	way.cut.Store(true)
	if err := conn.NATS().ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection is gone", func() bool { return conn.Healthy() != nil })
	publish(t, other, "jobs.a", numbered(1)...)
	source.OverduePulls()
	way.cut.Store(false)
	<-told
	for range 200 { // time enough for a pull to be answered, if one is there
		if left := jobsLeft(t, other); left == 0 {
			t.Error("a job was worked on before the source knew of the reconnect")
			break
		}
	}
	close(goOn)
	if d := next(t, arrived); d.First() {
		t.Errorf("a job from before the reconnect counts as new: %+v", d)
	}
}

// TestAnEventOfCoreModeWaitsForTheConnection: nobody else has the event, and the producers
// wait for their replies.
func TestAnEventOfCoreModeWaitsForTheConnection(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	way := &link{server: s}
	conn, other := connectBy(t, way), connect(t, s)
	answers, err := other.NATS().SubscribeSync("answers")
	if err != nil {
		t.Fatal(err)
	}
	way.cut.Store(true)
	if err := conn.NATS().ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection is gone", func() bool { return conn.Healthy() != nil })
	letters := []jobs.DeadLetter{{Job: &jobs.Job{Delivery: jobs.Delivery{Subject: "a", UID: "core.1"}}, Ruling: &jobs.Ruling{}}}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := bus.NewCoreDeadLetters(conn, pool).Publish(short, letters); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a connection, until its context ends: %v", err)
	}
	job := jobs.Decode(jobs.Delivery{UID: "core.2", Subject: "a", Reply: "answers"}, 0)
	settlement := &jobs.Settlement{
		Batch:   &jobs.Batch{ID: "b1", Pool: pool, Jobs: []*jobs.Job{&job}},
		Rulings: []jobs.Ruling{{Outcome: jobs.Succeeded}}, Replies: make([]jobs.Replies, 1),
	}
	settlement.EncodeEvent(1 << 20)
	committed := make(chan error, 1)
	go func() { committed <- bus.NewCoreLedger(conn).Commit(t.Context(), settlement) }()
	way.cut.Store(false)
	if err := <-committed; err != nil {
		t.Error(err)
	}
	if _, err := answers.NextMsg(patience); err != nil {
		t.Errorf("the producer got no reply: %v", err)
	}
}
