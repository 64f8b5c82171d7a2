package bus_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// jobsLeft returns how many jobs are in the stream.
func jobsLeft(t testing.TB, conn *bus.Conn) uint64 {
	t.Helper()
	stream, err := jetStream(t, conn).Stream(t.Context(), "JOBS")
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.Msgs
}

func ackAll(t testing.TB, source *bus.Source, deliveries []jobs.Delivery) {
	t.Helper()
	for i := range deliveries {
		if err := source.Ack(&deliveries[i]); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSourceHandsOutEveryJobOnce(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	publish(t, conn, "jobs.a", numbered(1000)...)
	if bus.NewSource(conn, setup, nopLog()).Healthy() == nil {
		t.Error("Healthy() = nil before the source is bound")
	}
	source, intake, _ := openSource(t, setup, conn)

	seen := make(map[uint64]bool)
	all := receive(t, intake, source, 1000)
	for _, d := range all {
		if seen[d.Ref.Seq] {
			t.Fatalf("job %d was handed out twice", d.Ref.Seq)
		}
		seen[d.Ref.Seq] = true
		if d.Subject != "jobs.a" || d.Delivered != 1 || len(d.Data) != 1 || d.Source != "/rollcall/JOBS/"+d.Ref.Epoch || d.Inherited {
			t.Fatalf("unexpected delivery %+v", d)
		}
		if age := d.Received.Sub(d.Published); age < -time.Minute || age > time.Minute {
			t.Fatalf("published %v and received %v are not the same moment", d.Published, d.Received)
		}
	}
	ackAll(t, source, all)
	eventually(t, "acked jobs leave the stream", func() bool { return jobsLeft(t, conn) == 0 })
	if err := source.Healthy(); err != nil {
		t.Errorf("Healthy() = %v, want nil", err)
	}
}

func TestJobsOlderThanTheConsumerAreInherited(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	publish(t, conn, "jobs.a", numbered(1)...)
	if err := jetStream(t, conn).DeleteConsumer(t.Context(), "JOBS", pool); err != nil {
		t.Fatal(err)
	}
	source, intake, _ := openSource(t, setup, conn)
	if d := receive(t, intake, source, 1)[0]; !d.Inherited || d.First() {
		t.Errorf("inherited %v: a consumer before this one may have handed the job out", d.Inherited)
	}
}

// TestTheRoomIsNeverExceeded holds what it gets and checks the broker's own count of what is
// out: whatever was delivered but not handed out counts as well. A trickle leaves pulls open,
// then a flood fills all of them.
func TestTheRoomIsNeverExceeded(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	source, intake, _ := openSource(t, setup, conn)
	js := jetStream(t, conn)
	const room = 100
	var held []jobs.Delivery
	bytes := int64(0)
	take := func() {
		bytes += 8 << 20 // never what limits the next pull
		chunk, err := within(t, func() ([]jobs.Delivery, error) {
			return source.Receive(intake, jobs.Room{Jobs: room - len(held), Bytes: bytes})
		})
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, chunk...)
		// Acks take a moment; what was asked for too much would stay out.
		eventually(t, "no more jobs are out than there is room for", func() bool {
			consumer, err := js.Consumer(t.Context(), "JOBS", pool)
			return err == nil && consumer.CachedInfo().NumAckPending <= room
		})
	}
	for range 20 {
		publish(t, conn, "jobs.a", numbered(1)...)
		take()
	}
	publish(t, conn, "jobs.a", numbered(500)...)
	for done := 0; done < 520; {
		if done+len(held) < 520 {
			take()
		}
		// Give back room in odd portions.
		n := min(len(held), 37)
		ackAll(t, source, held[:n])
		held, done = held[n:], done+n
	}
}

func TestBytesAreBounded(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	body := []byte(strings.Repeat("x", 64<<10))
	bodies := make([][]byte, 64)
	for i := range bodies {
		bodies[i] = body
	}
	publish(t, conn, "jobs.a", bodies...)
	source, intake, _ := openSource(t, setup, conn)

	const room = 1 << 20
	got, err := within(t, func() ([]jobs.Delivery, error) {
		return source.Receive(intake, jobs.Room{Jobs: 64, Bytes: room})
	})
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := jetStream(t, conn).Consumer(t.Context(), "JOBS", pool)
	if err != nil {
		t.Fatal(err)
	}
	// The largest message may come on top, never a second one.
	if out, limit := consumer.CachedInfo().NumAckPending, room/len(body)+1<<20/len(body); out > limit {
		t.Errorf("%d jobs of 64 KiB are out, want at most %d", out, limit)
	}
	ackAll(t, source, got)
}

func TestAMessageOfFullSizePassesASmallRoom(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	publish(t, conn, "jobs.a", make([]byte, 1<<20))
	source, intake, _ := openSource(t, setup, conn)
	got, err := within(t, func() ([]jobs.Delivery, error) {
		return source.Receive(intake, jobs.Room{Jobs: 10, Bytes: 1000})
	})
	if err != nil || len(got) != 1 || len(got[0].Data) != 1<<20 {
		t.Errorf("Receive() = %d deliveries, %v; want the one of 1 MiB", len(got), err)
	}
}

// TestAPullWithoutAStatusHoldsUpNothing has a job of exactly as many bytes as the first pull asks for.
func TestAPullWithoutAStatusHoldsUpNothing(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	const first = 64 << 10
	overhead := len("jobs.a") + len("$JS.ACK.JOBS."+pool+".1.1.1.1234567890123456789.1")
	publish(t, conn, "jobs.a", make([]byte, first-overhead), []byte("next"))
	source, intake, _ := openSource(t, setup, conn)
	room := jobs.Room{Jobs: 16, Bytes: 8 << 20}
	begun := time.Now()
	for room.Jobs > 14 {
		got, err := within(t, func() ([]jobs.Delivery, error) { return source.Receive(intake, room) })
		if err != nil {
			t.Fatal(err)
		}
		room.Jobs -= len(got)
	}
	if took := time.Since(begun); took >= 2*time.Second {
		t.Errorf("the second job came after %v: when a pull is written off", took)
	}
}

func TestAForeignMessageIsNeverAcked(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	source, intake, _ := openSource(t, setup, conn)
	acks, err := conn.NATS().SubscribeSync("trap.>")
	if err != nil {
		t.Fatal(err)
	}
	pulls, err := conn.NATS().SubscribeSync("$JS.API.CONSUMER.MSG.NEXT.JOBS." + pool)
	if err != nil {
		t.Fatal(err)
	}
	received := make(chan []jobs.Delivery, 1)
	go func() {
		got, err := source.Receive(intake, jobs.Room{Jobs: 10, Bytes: 8 << 20})
		if err == nil {
			received <- got
		}
	}()
	pull, err := pulls.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	inbox := pull.Reply[:strings.LastIndex(pull.Reply, ".")] + ".intruder"
	if err := conn.NATS().PublishRequest(inbox, "trap.ack", []byte("not a job")); err != nil {
		t.Fatal(err)
	}
	publish(t, conn, "jobs.a", numbered(1)...)
	select {
	case got := <-received:
		if len(got) != 1 || got[0].Subject != "jobs.a" {
			t.Errorf("received %+v, want the job only", got)
		}
	case <-time.After(patience):
		t.Fatal("the job did not arrive")
	}
	if n, _, err := acks.Pending(); n != 0 || err != nil {
		t.Errorf("%d answers to a message that is no delivery (%v), want none", n, err)
	}
}

func TestNewAckSubjectsAreUnderstood(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t, func(o *server.Options) {
		o.FeatureFlags = map[string]bool{server.FeatureFlagJsAckFormatV2: true}
	}))
	setup := ensure(t, conn, streams())
	publish(t, conn, "jobs.a", numbered(5)...)
	source, intake, _ := openSource(t, setup, conn)
	got := receive(t, intake, source, 5)
	if n := strings.Count(got[0].Reply, ".") + 1; n < 11 {
		t.Fatalf("the server still uses the old form %s: the test proves nothing", got[0].Reply)
	}
	ackAll(t, source, got)
	eventually(t, "acked jobs leave the stream", func() bool { return jobsLeft(t, conn) == 0 })
}

// waitForPulls returns when so many pulls wait at the broker.
func waitForPulls(t testing.TB, conn *bus.Conn, n int) {
	t.Helper()
	consumer, err := jetStream(t, conn).Consumer(t.Context(), "JOBS", pool)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; {
		info, err := consumer.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.NumWaiting == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d pulls wait at the broker, want %d", info.NumWaiting, n)
		}
	}
}
