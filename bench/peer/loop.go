package peer

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Names that both loops use at the broker.
const (
	LoopConsumer = "loop"
	LoopEvents   = "events.batch"
)

// Loop is the settings of a hand-written loop: jobs in, batches out to all services, one event
// a batch. No loop keeps a ledger or reads replies, so a crash doubles events and a failed
// service loses jobs. That is what makes it a measure: it does the work and promises nothing.
type Loop struct {
	URL, Stream string
	Services    []string
	// Batch is the most jobs in a batch, InFlight the most batches at once.
	Batch, InFlight int
	// Payload is the size of a job in bytes.
	Payload int
	// Linger is how long a batch waits for more jobs after its first.
	Linger time.Duration
	// Requests makes the floor send each job in a request of its own, at most so many at once; 0 =
	// one request for a batch.
	Requests int
}

// LoopEvent is the completion event of a loop: the stream sequences of the jobs done.
type LoopEvent struct {
	Jobs []uint64 `json:"jobs"`
}

// maxAckPending is high enough that the broker never waits for acks of a loop.
const maxAckPending = 20_000

// opened is a loop's connection and its consumer.
type opened struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	consumer jetstream.Consumer
}

// open connects and makes the durable consumer. The caller closes the connection.
func (l Loop) open(ctx context.Context) (opened, error) {
	if len(l.Services) == 0 {
		return opened{}, fmt.Errorf("start a loop: %w", errNoServices)
	}
	nc, err := nats.Connect(l.URL)
	if err != nil {
		return opened{}, fmt.Errorf("connect a loop: %w", err)
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(8192))
	if err != nil {
		nc.Close()
		return opened{}, fmt.Errorf("open JetStream for a loop: %w", err)
	}
	consumer, err := js.CreateOrUpdateConsumer(ctx, l.Stream, jetstream.ConsumerConfig{
		Durable: LoopConsumer, AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: maxAckPending,
	})
	if err != nil {
		nc.Close()
		return opened{}, fmt.Errorf("create the consumer of a loop: %w", err)
	}
	return opened{nc: nc, js: js, consumer: consumer}, nil
}
