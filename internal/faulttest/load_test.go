package faulttest_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/faulttest"
)

// jobStream starts a broker with an empty JOBS stream and the pool's consumer.
func jobStream(t *testing.T) (*faulttest.Broker, jetstream.JetStream, jetstream.Consumer) {
	t.Helper()
	b := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	js := faulttest.JetStream(t, faulttest.Connect(t, b.URL))
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "JOBS", Subjects: []string{"jobs.>"}, Retention: jetstream.WorkQueuePolicy,
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := js.CreateConsumer(t.Context(), "JOBS", jetstream.ConsumerConfig{Durable: "default", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	return b, js, c
}

func TestLoadAcceptsEveryJobOnce(t *testing.T) {
	t.Parallel()
	_, js, _ := jobStream(t)
	load := faulttest.NewLoad(t, js, "JOBS", "jobs.x")
	load.Publish(700, time.Minute)
	seen := map[string]bool{}
	for _, job := range load.Accepted() {
		if seen[job.UID] || seen[job.ID] {
			t.Fatalf("job %+v was accepted twice", job)
		}
		seen[job.UID], seen[job.ID] = true, true
	}
	if len(seen) != 1400 {
		t.Errorf("%d uids and ids for 700 jobs", len(seen))
	}
}

func TestLoadKnowsTheFateOfEveryJobOverABrokerCrash(t *testing.T) {
	t.Parallel()
	b, js, _ := jobStream(t)
	load := faulttest.NewLoad(t, js, "JOBS", "jobs.x")
	stop := load.Start(2000)
	for range 2 {
		before := len(load.Accepted())
		faulttest.Until(t, soon, "jobs flow", func() bool { return len(load.Accepted()) > before })
		b.Kill()
		b.Restart()
	}
	stop()
	stop() // again is harmless
	var s jetstream.Stream
	faulttest.Until(t, soon, "the client is connected again", func() bool {
		var err error
		s, err = js.Stream(t.Context(), "JOBS")
		return err == nil
	})
	if stored, accepted := s.CachedInfo().State.Msgs, len(load.Accepted()); stored != uint64(accepted) {
		t.Errorf("%d jobs stored, %d accepted", stored, accepted)
	}
	if load.Refusals() == 0 {
		t.Error("a broker that was killed twice refused nothing: the load ran past the fault")
	}
}

func TestWaitRestSeesJobsThatNobodySettled(t *testing.T) {
	t.Parallel()
	_, js, c := jobStream(t)
	faulttest.WaitRest(t, js, "JOBS", "default", soon)
	faulttest.NewLoad(t, js, "JOBS", "jobs.x").Publish(1, soon)
	m, err := c.Next()
	if err != nil {
		t.Fatal(err)
	}
	if !fails(t, func(tb testing.TB) { faulttest.WaitRest(tb, js, "JOBS", "default", quiet) }) {
		t.Error("a job that waits for its ack was taken for rest")
	}
	if err := m.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	faulttest.WaitRest(t, js, "JOBS", "default", soon)
}

func TestCollectOfAnEmptyPool(t *testing.T) {
	t.Parallel()
	_, js, _ := jobStream(t)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "DONE", Subjects: []string{"done.>"}}); err != nil {
		t.Fatal(err)
	}
	events, err := faulttest.Events(t.Context(), js)
	if err != nil || len(events) != 0 {
		t.Errorf("%d events, %v; want none", len(events), err)
	}
	if _, err := js.Publish(t.Context(), "done.batches.default.succeeded.x", []byte("no event")); err != nil {
		t.Fatal(err)
	}
	if _, err := faulttest.Events(t.Context(), js); err == nil {
		t.Error("a stored message that is no event was read as one")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := faulttest.DeadLetters(ctx, js); err == nil {
		t.Error("reading without a stream and without time succeeded")
	}
}

// TestCollectAsksABusyBrokerAgain: one answer that did not come in time failed a whole scenario.
func TestCollectAsksABusyBrokerAgain(t *testing.T) {
	t.Parallel()
	b, js, _ := jobStream(t)
	for name, subject := range map[string]string{"DONE": "done.>", "DEAD": "dead.>"} {
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{subject}}); err != nil {
			t.Fatal(err)
		}
	}
	impatient, err := jetstream.New(js.Conn(), jetstream.WithDefaultTimeout(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	b.Pause()
	time.AfterFunc(200*time.Millisecond, b.Resume)
	if _, err := faulttest.DeadLetters(t.Context(), impatient); err != nil {
		t.Errorf("dead letters: %v", err)
	}
	if _, err := faulttest.Events(t.Context(), impatient); err != nil {
		t.Errorf("events: %v", err)
	}
}
