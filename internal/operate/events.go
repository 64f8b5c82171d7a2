package operate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// Event is a committed completion event as it lies on the broker; [jobs.DecodeEvent] reads
// its Data.
type Event struct {
	Pool    string
	Outcome jobs.BatchOutcome
	BatchID string
	// Seq and Time are those of the stored event; 0 and the time of arrival for one heard.
	Seq  uint64
	Time time.Time
	Data []byte
}

// Events reads completion events.
type Events struct{ conn *bus.Conn }

// NewEvents returns a reader of completion events.
func NewEvents(conn *bus.Conn) *Events { return &Events{conn: conn} }

// Next returns the sequence that the next event, or a later one, will have: what
// [Events.Stored] wants as from to begin with now. The error wraps [bus.ErrMissing] if the stream
// is missing.
func (e *Events) Next(ctx context.Context) (uint64, error) {
	stream, err := e.conn.Stream(ctx, bus.StreamDone)
	if err != nil {
		return 0, err
	}
	return stream.CachedInfo().State.LastSeq + 1, nil
}

// Clock is the broker's clock. The error wraps [bus.ErrMissing] if the stream is missing.
func (e *Events) Clock(ctx context.Context) (Clock, error) {
	stream, err := e.conn.Stream(ctx, bus.StreamDone)
	if err != nil {
		return Clock{}, err
	}
	return NewClock(stream.CachedInfo().TimeStamp), nil
}

// Stored calls each, in the order of commit, for the stored events of a pool ("*" for all)
// from sequence from on (0 = all that are stored). It returns once those stored at the call
// are read; with follow it goes on until ctx is done and then returns nil. An error of each
// ends it and is returned as it is; a missing stream is [bus.ErrMissing].
func (e *Events) Stored(ctx context.Context, pool string, from uint64, follow bool, each func(Event) error) error {
	stream, err := e.conn.Stream(ctx, bus.StreamDone)
	if err != nil {
		return err
	}
	config := jetstream.OrderedConsumerConfig{FilterSubjects: []string{bus.EventsFilter(pool)}}
	if from > 0 {
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, from
	}
	consumer, err := stream.OrderedConsumer(ctx, config)
	if err != nil {
		return bus.Explain("read stored events", err)
	}
	if !follow && consumer.CachedInfo().NumPending == 0 {
		return nil
	}
	messages, err := consumer.Messages()
	if err != nil {
		return bus.Explain("read stored events", err)
	}
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			if follow && ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("read stored events: %w", err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read stored events: %w", err)
		}
		if event, ok := readEvent(m.Subject(), bus.EventPrefix, meta.Sequence.Stream, meta.Timestamp, m.Data()); ok {
			if err := each(event); err != nil {
				return err
			}
		}
		if !follow && (meta.NumPending == 0 || meta.Sequence.Stream >= stream.CachedInfo().State.LastSeq) {
			return nil
		}
	}
}

// Heard calls each for the events told on the plain subjects from now on, until ctx is done;
// then it returns nil. What is told while nobody listens is missed. An error of each ends it
// and is returned as it is.
func (e *Events) Heard(ctx context.Context, pool string, each func(Event) error) (err error) {
	sub, err := e.conn.NATS().SubscribeSync(bus.BatchesFilter(pool))
	if err != nil {
		return fmt.Errorf("listen for events: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // a connection that is gone needs none
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if errors.Is(err, nats.ErrSlowConsumer) {
			// Some were missed; the connection has logged it.
			continue
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("listen for events: %w", err)
		}
		if event, ok := readEvent(m.Subject, "batches.", 0, time.Now(), m.Data); ok {
			if err := each(event); err != nil {
				return err
			}
		}
	}
}

// readEvent takes pool, outcome and batch id off a subject.
func readEvent(subject, prefix string, seq uint64, at time.Time, data []byte) (Event, bool) {
	rest, ok := strings.CutPrefix(subject, prefix)
	tokens := strings.Split(rest, ".")
	if !ok || len(tokens) != 3 {
		return Event{}, false
	}
	return Event{Pool: tokens[0], Outcome: jobs.BatchOutcome(tokens[1]), BatchID: tokens[2], Seq: seq, Time: at, Data: data}, true
}
