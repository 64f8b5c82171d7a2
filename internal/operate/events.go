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
	stream, err := e.conn.Stream(ctx, e.conn.Done())
	if err != nil {
		return 0, err
	}
	return stream.CachedInfo().State.LastSeq + 1, nil
}

// Clock is the broker's clock. The error wraps [bus.ErrMissing] if the stream is missing.
func (e *Events) Clock(ctx context.Context) (Clock, error) {
	stream, err := e.conn.Stream(ctx, e.conn.Done())
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
	return e.read(ctx, pool, span{from: from, follow: follow}, each)
}

// span is a range of sequences: from the first on, before the end. 0 is no bound.
type span struct {
	from, end uint64
	follow    bool
}

func (e *Events) read(ctx context.Context, pool string, s span, each func(Event) error) error {
	stream, err := e.conn.Stream(ctx, e.conn.Done())
	if err != nil {
		return err
	}
	config := jetstream.OrderedConsumerConfig{FilterSubjects: []string{bus.EventsFilter(pool)}}
	if s.from > 0 {
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, s.from
	}
	for m, err := range readStored(ctx, e.conn, stream, config, "read stored events", s.follow) {
		if err != nil {
			return err
		}
		if s.end > 0 && m.Sequence.Stream >= s.end {
			return nil
		}
		if event, ok := readEvent(m.Subject(), bus.EventPrefix, m.Sequence.Stream, m.Timestamp, m.Data()); ok {
			if err := each(event); err != nil {
				return err
			}
		}
	}
	return nil
}

const (
	// firstSpan and maxSpan bound the sequences that Backwards reads at once; each span is twice
	// the one after it.
	firstSpan = 2_000
	maxSpan   = 512_000
)

// Backwards reads stored events of a pool in spans, the newest span first and each in the order
// of commit, until enough says so after a span or there are no more. end is the first sequence
// that is too new; 0 for none.
func (e *Events) Backwards(ctx context.Context, pool string, end uint64, each func(Event) error, enough func() bool) error {
	stream, err := e.conn.Stream(ctx, e.conn.Done())
	if err != nil {
		return err
	}
	state := stream.CachedInfo().State
	if end == 0 {
		end = state.LastSeq + 1
	}
	for size := uint64(firstSpan); end > state.FirstSeq && !enough(); size = min(2*size, maxSpan) {
		from := state.FirstSeq
		if end > from+size {
			from = end - size
		}
		if err := e.read(ctx, pool, span{from: from, end: end}, each); err != nil {
			return err
		}
		end = from
	}
	return nil
}

// Heard calls each for every event republished on the plain subjects from now on, until ctx is
// done; then it returns nil. Events that are republished while nobody listens are missed. An error of each ends it
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
