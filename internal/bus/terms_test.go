package bus_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"rollcall/internal/bus"
)

// TestLeasesAreThoseOfTheConsumer: renewed by the settings, the leases of a consumer that
// somebody made with a shorter one would lapse in the middle of every long call.
func TestLeasesAreThoseOfTheConsumer(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*jetstream.ConsumerConfig)
		want   time.Duration
	}{
		"ack wait": {func(c *jetstream.ConsumerConfig) { c.AckWait = 3 * time.Second }, 3 * time.Second},
		"back-off": {func(c *jetstream.ConsumerConfig) {
			c.MaxDeliver, c.BackOff = 10, []time.Duration{4 * time.Second, time.Second, time.Minute}
		}, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, startServer(t))
			s := streams()
			s.AckWait = 2 * time.Minute
			setup := ensure(t, conn, s)
			alterConsumer(t, jetStream(t, conn), tt.change)
			source, _, _ := openSource(t, setup, conn)
			eventually(t, "the source is bound", func() bool { return source.Healthy() == nil })
			if got := source.Lease(); got != tt.want {
				t.Errorf("the lease is %v, want %v", got, tt.want)
			}
		})
	}
}

func TestPullsFitWhatTheConsumerAllows(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		limits func(*server.Options)
		change func(*jetstream.ConsumerConfig)
	}{
		"max_batch":         {change: func(c *jetstream.ConsumerConfig) { c.MaxRequestBatch = 50 }},
		"max_batch of 1":    {change: func(c *jetstream.ConsumerConfig) { c.MaxRequestBatch = 1 }},
		"max_expires":       {change: func(c *jetstream.ConsumerConfig) { c.MaxRequestExpires = 500 * time.Millisecond }},
		"max_bytes":         {change: func(c *jetstream.ConsumerConfig) { c.MaxRequestMaxBytes = 1 << 20 }},
		"max_request_batch": {limits: func(o *server.Options) { o.JetStreamLimits.MaxRequestBatch = 100 }},
		"another group":     {change: func(c *jetstream.ConsumerConfig) { c.PriorityGroups = []string{"workers"} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var options []func(*server.Options)
			if tt.limits != nil {
				options = append(options, tt.limits)
			}
			conn := connect(t, startServer(t, options...))
			setup := ensure(t, conn, streams())
			if tt.change != nil {
				alterConsumer(t, jetStream(t, conn), tt.change)
			}
			publish(t, conn, "jobs.a", numbered(200)...)
			source, intake, _ := openSource(t, setup, conn)
			ackAll(t, source, receive(t, intake, source, 200))
			eventually(t, "all are settled", func() bool { return jobsLeft(t, conn) == 0 })
		})
	}
}

// TestARefusalThatDoesNotPassIsReported: a job that is larger than any pull may be never
// arrives, and neither does any after it.
func TestARefusalThatDoesNotPassIsReported(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	alterConsumer(t, jetStream(t, conn), func(c *jetstream.ConsumerConfig) { c.MaxRequestMaxBytes = 1000 })
	var log syncBuffer
	source := bus.NewSource(conn, setup, zerolog.New(&log))
	end := runSource(t, source)
	defer end()
	defer closeSource(t, source)
	keepReceiving(t, t.Context(), source)
	eventually(t, "the source is bound", func() bool { return source.Healthy() == nil })
	publish(t, conn, "jobs.a", bytes.Repeat([]byte("x"), 2000))
	eventually(t, "the source is not ready", func() bool { return source.Healthy() != nil })
	if why := source.Healthy().Error(); !strings.Contains(why, "Exceeds MaxBytes") || !strings.Contains(why, pool) {
		t.Errorf("it says %q, want the refusal and the consumer", why)
	}
	eventually(t, "the log has it", func() bool {
		return strings.Count(log.String(), `"level":"error"`) == 1 && strings.Contains(log.String(), "Exceeds MaxBytes")
	})
	if err := jetStream(t, conn).DeleteConsumer(t.Context(), "JOBS", pool); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the consumer is made again and the source is ready", func() bool { return source.Healthy() == nil })
}

// TestLapsedLeasesAreNotHandedOut: a process that was stopped finds what had arrived before as
// it left it, but the broker has given it to others.
func TestLapsedLeasesAreNotHandedOut(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	source, intake, _ := openSource(t, ensure(t, conn, streams()), conn)
	leaveTwoWaiting(t, conn, source, intake)
	source.Stopped(time.Minute)
	for _, d := range receive(t, intake, source, 2) {
		if d.Delivered < 2 {
			t.Errorf("job %s of a lapsed lease was handed out as delivery %d", d.Ref.UID(), d.Delivered)
		}
		if err := source.Ack(&d); err != nil {
			t.Error(err)
		}
	}
}
