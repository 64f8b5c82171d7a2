package bus_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// coreServer has no JetStream at all.
func coreServer(o *server.Options) { o.JetStream = false }

func openCore(t *testing.T, conn *bus.Conn) (*bus.CoreSource, context.Context, context.CancelFunc) {
	t.Helper()
	s := streams()
	s.Source = bus.SourceCore
	source, err := bus.NewCoreSource(conn, s, pool, nopLog())
	if err != nil {
		t.Fatal(err)
	}
	intake, stop := context.WithCancel(context.Background())
	end := runSource(t, source)
	t.Cleanup(func() {
		stop()
		if err := source.Close(context.Background()); err != nil {
			t.Error(err)
		}
		end()
	})
	return source, intake, stop
}

// listening starts Receive and returns once the server knows of the subscription.
func listening(t *testing.T, conn *bus.Conn, source *bus.CoreSource, intake context.Context, room jobs.Room) <-chan []jobs.Delivery {
	t.Helper()
	received := make(chan []jobs.Delivery, 1)
	go func() {
		got, err := source.Receive(intake, room)
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Receive() = %v", err)
		}
		received <- got
	}()
	eventually(t, "the source listens", func() bool { return source.Healthy() == nil })
	if err := conn.NATS().FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	return received
}

func TestCoreModeAnswersTheProducer(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t, coreServer))
	source, intake, _ := openCore(t, conn)
	heard, err := conn.NATS().SubscribeSync(bus.BatchesFilter(pool))
	if err != nil {
		t.Fatal(err)
	}
	received := listening(t, conn, source, intake, jobs.Room{Jobs: 1, Bytes: 1 << 20})
	answers, err := conn.NATS().SubscribeSync("answers")
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.NATS().PublishRequest("jobs.a", "answers", []byte(`{"n":1}`)); err != nil {
		t.Fatal(err)
	}
	got := <-received
	if len(got) != 1 {
		t.Fatalf("received %d jobs, want 1", len(got))
	}
	d := got[0]
	if !strings.HasPrefix(d.UID, "core.") || d.Source != "/rollcall/core/test" || !d.First() || d.Subject != "jobs.a" {
		t.Errorf("unexpected delivery %+v", d)
	}
	if err := errors.Join(source.Extend(&d), source.Nak(&d, time.Second), source.Ack(&d)); err != nil {
		t.Error(err)
	}

	ledger := bus.NewCoreLedger(conn)
	if known, err := ledger.Load(t.Context(), []jobs.Ref{d.Ref}); err != nil || known[0].Final {
		t.Errorf("Load() = %+v, %v; want nothing known", known, err)
	}
	if err := ledger.Mark(t.Context(), []jobs.Mark{{Ref: d.Ref}}); err != nil {
		t.Error(err)
	}
	job := jobs.Decode(d, 0)
	silent := jobs.Decode(jobs.Delivery{UID: "core.x", Subject: "jobs.b"}, 0)
	s := &jobs.Settlement{
		Batch:   &jobs.Batch{ID: "b1", Pool: pool, Jobs: []*jobs.Job{&job, &silent}},
		Rulings: []jobs.Ruling{{Outcome: jobs.Failed, Attempt: 1, Reason: "no"}, {Outcome: jobs.Succeeded}}, Replies: make([]jobs.Replies, 2),
	}
	s.EncodeEvent(1 << 20)
	if err := ledger.Commit(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	event, err := heard.NextMsg(patience)
	if err != nil || event.Subject != "batches.test.partial.b1" {
		t.Fatalf("heard %v, %v; want the event", event, err)
	}
	if _, err := jobs.DecodeEvent(event.Data); err != nil {
		t.Error(err)
	}
	answer, err := answers.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	var entry jobs.EventJob
	if err := json.Unmarshal(answer.Data, &entry); err != nil || entry.UID != d.UID || entry.Outcome != "failed" || entry.Reason != "no" {
		t.Errorf("answered %s, %v; want the job's entry of the event", answer.Data, err)
	}
}

func TestACoreAnswerThatDoesNotFitIsShortened(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t, coreServer))
	answers, err := conn.NATS().SubscribeSync("answers")
	if err != nil {
		t.Fatal(err)
	}
	job := jobs.Decode(jobs.Delivery{UID: "core.x", Subject: "jobs.b", Reply: "answers"}, 0)
	s := &jobs.Settlement{
		Batch:   &jobs.Batch{ID: "b1", Pool: pool, Jobs: []*jobs.Job{&job}},
		Rulings: []jobs.Ruling{{Outcome: jobs.Failed, Reason: strings.Repeat("x", 2<<20)}}, Replies: make([]jobs.Replies, 1),
		Event: []byte("{}"),
	}
	if err := bus.NewCoreLedger(conn).Commit(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if m, err := answers.NextMsg(patience); err != nil || string(m.Data) != `{"uid":"core.x","outcome":"failed","truncated":true}` {
		t.Errorf("answered %v, %v", m, err)
	}
}

func TestCoreReplicasShareTheJobs(t *testing.T) {
	t.Parallel()
	s := startServer(t, coreServer)
	total := 0
	done := make(chan int)
	var stops []context.CancelFunc
	producer := connect(t, s)
	for range 2 {
		conn := connect(t, s)
		source, intake, stop := openCore(t, conn)
		stops = append(stops, stop)
		first := listening(t, conn, source, intake, jobs.Room{Jobs: 10, Bytes: 1 << 20})
		go func() {
			got := <-first
			for len(got) > 0 {
				if len(got) > 10 {
					t.Errorf("%d jobs for a room of 10", len(got))
				}
				done <- len(got)
				var err error
				if got, err = source.Receive(intake, jobs.Room{Jobs: 10, Bytes: 1 << 20}); err != nil {
					return
				}
			}
		}()
	}
	for range 500 {
		if err := producer.NATS().Publish("jobs.a", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for total < 500 {
		select {
		case n := <-done:
			total += n
		case <-time.After(patience):
			t.Fatalf("only %d of 500 jobs arrived", total)
		}
	}
	for _, stop := range stops {
		stop()
	}
	if total != 500 {
		t.Errorf("%d jobs arrived, want each of 500 once", total)
	}
}

func TestACoreSourceStopsWithItsIntake(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t, coreServer))
	source, intake, stop := openCore(t, conn)
	received := listening(t, conn, source, intake, jobs.Room{Jobs: 1, Bytes: 1 << 20})
	if err := source.Healthy(); err != nil {
		t.Errorf("Healthy() = %v, want nil", err)
	}
	stop()
	if got := <-received; len(got) != 0 {
		t.Errorf("received %d jobs after the end", len(got))
	}
	eventually(t, "the subscription ends", func() bool { return conn.NATS().NumSubscriptions() == 0 })
	if _, err := source.Receive(intake, jobs.Room{Jobs: 1, Bytes: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("Receive() = %v, want the cause of the intake's end", err)
	}
}

func TestACoreSourceHandsOutWhatHasArrivedBeforeItsEnd(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t, coreServer))
	source, intake, stop := openCore(t, conn)
	room := jobs.Room{Jobs: 1, Bytes: 1 << 20}
	received := listening(t, conn, source, intake, room)
	const published = 3 * 64 // more than the source's own buffer holds
	for range published {
		if err := conn.NATS().Publish("jobs.a", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.NATS().FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	got := len(<-received)
	stop()
	for {
		deliveries, err := source.Receive(intake, room)
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Receive() = %v, want the cause of the intake's end", err)
			}
			break
		}
		got += len(deliveries)
	}
	if got != published {
		t.Errorf("%d of %d jobs that had arrived were handed out", got, published)
	}
}

// TestACoreSourceCountsWhatIsLost: what a pool hands back comes back to nobody.
func TestACoreSourceCountsWhatIsLost(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t, coreServer))
	s := streams()
	s.Source = bus.SourceCore
	var log bytes.Buffer
	source, err := bus.NewCoreSource(conn, s, pool, zerolog.New(&log))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := source.Nak(&jobs.Delivery{}, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := source.Close(patient(t)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), `"jobs":3`) {
		t.Errorf("log: %s", log.String())
	}
}

func TestACoreSourceRefusesBadSettings(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t, coreServer))
	if _, err := bus.NewCoreSource(conn, bus.Streams{}, pool, nopLog()); err == nil {
		t.Error("empty settings are accepted")
	}
}
