package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
)

const (
	// What may wait in this process in core mode, over all subjects. What comes on top is
	// dropped by the client and reported as a slow consumer: nothing holds producers back.
	corePendingJobs  = 8192
	corePendingBytes = 64 << 20
	// coreBuffer smooths the hand-over from the subscriptions.
	coreBuffer = 64
)

// CoreSource hands out messages of plain subjects, shared by the replicas of a pool as a queue
// group. Each is delivered at most once: there is nothing to ack, and nothing comes back.
type CoreSource struct {
	conn    *Conn
	streams Streams
	pool    string
	log     zerolog.Logger
	arrived chan jobs.Delivery
	open    sync.Once
	ended   chan struct{}

	mu   sync.Mutex
	subs []*nats.Subscription
}

// NewCoreSource returns the source of a pool in core mode. It subscribes when Receive is first
// called. [CoreSource.Close] must be called.
func NewCoreSource(conn *Conn, streams Streams, pool string, log zerolog.Logger) (*CoreSource, error) {
	if err := streams.Validate(); err != nil {
		return nil, err
	}
	return &CoreSource{
		conn: conn, streams: streams, pool: pool, log: log,
		arrived: make(chan jobs.Delivery, coreBuffer), ended: make(chan struct{}),
	}, nil
}

// Receive implements pool.Source. When the context of the first call ends, the subscriptions
// end too, and what has arrived but was not handed out is lost.
func (s *CoreSource) Receive(ctx context.Context, room jobs.Room) (deliveries []jobs.Delivery, err error) {
	s.open.Do(func() {
		if err = s.subscribe(); err == nil {
			context.AfterFunc(ctx, s.unsubscribe)
		}
	})
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case d := <-s.arrived:
		deliveries = append(deliveries, d)
		room.Bytes -= int64(len(d.Data))
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-s.conn.closed:
		return nil, fmt.Errorf("receive jobs: %w", errors.Join(ErrClosed, s.conn.Err()))
	}
	for len(deliveries) < room.Jobs && room.Bytes > 0 {
		select {
		case d := <-s.arrived:
			deliveries = append(deliveries, d)
			room.Bytes -= int64(len(d.Data))
		default:
			return deliveries, nil
		}
	}
	return deliveries, nil
}

func (s *CoreSource) subscribe() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.streams.Subjects)
	for _, subject := range s.streams.Subjects {
		sub, err := s.conn.nc.QueueSubscribe(subject, s.pool, s.accept)
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
		s.subs = append(s.subs, sub)
		if err := sub.SetPendingLimits(max(corePendingJobs/n, 1), corePendingBytes/n); err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
	}
	return nil
}

func (s *CoreSource) accept(m *nats.Msg) {
	now := time.Now()
	d := jobs.Delivery{
		Subject: m.Subject, Header: m.Header, Data: m.Data, Reply: m.Reply,
		Source: "/rollcall/core/" + s.pool, UID: "core." + nuid.Next(),
		Delivered: 1, Published: now, Received: now,
	}
	select {
	case s.arrived <- d:
	case <-s.ended:
	}
}

func (s *CoreSource) unsubscribe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.ended:
		return
	default:
	}
	lost := len(s.arrived)
	for _, sub := range s.subs {
		if n, _, err := sub.Pending(); err == nil {
			lost += n
		}
		if err := unsubscribe(sub); err != nil {
			s.log.Warn().Err(err).Str("subject", sub.Subject).Msg("could not unsubscribe")
		}
	}
	close(s.ended)
	if lost > 0 {
		s.log.Warn().Int("jobs", lost).Msg("jobs that had arrived but not begun are lost: core mode delivers at most once")
	}
}

// Ack implements pool.Settler; there is nothing to ack.
func (s *CoreSource) Ack(*jobs.Delivery) error { return nil }

// Nak implements pool.Settler; nothing comes back.
func (s *CoreSource) Nak(*jobs.Delivery, time.Duration) error { return nil }

// Extend implements pool.Settler; there is no lease.
func (s *CoreSource) Extend(*jobs.Delivery) error { return nil }

// Healthy returns nil while the source is subscribed and the connection is well.
func (s *CoreSource) Healthy() error {
	s.mu.Lock()
	subscribed := len(s.subs) > 0
	s.mu.Unlock()
	if !subscribed {
		return errUnbound
	}
	return s.conn.Healthy()
}

// Close ends the subscriptions.
func (s *CoreSource) Close(context.Context) error {
	s.unsubscribe()
	return nil
}

// CoreLedger remembers nothing: it tells the completion event on its plain subject and answers
// the producers.
type CoreLedger struct{ conn *Conn }

// NewCoreLedger returns the ledger of core mode.
func NewCoreLedger(conn *Conn) *CoreLedger { return &CoreLedger{conn: conn} }

// Load implements pool.Ledger: nothing is known of any job.
func (l *CoreLedger) Load(_ context.Context, refs []jobs.Ref) ([]jobs.Record, error) {
	return make([]jobs.Record, len(refs)), nil
}

// Commit implements pool.Ledger. Every job that carries a reply subject is answered with its
// entry of the event's jobs, in full even where the event was cut.
func (l *CoreLedger) Commit(_ context.Context, s *jobs.Settlement) error {
	event := &nats.Msg{
		Subject: BatchSubject(s.Batch.Pool, s.Outcome, s.Batch.ID),
		Header:  nats.Header{"Content-Type": {jobs.MediaEvent}}, Data: s.Event,
	}
	if s.Batch.Traceparent != "" {
		event.Header["traceparent"] = []string{s.Batch.Traceparent}
	}
	if err := l.conn.nc.PublishMsg(event); err != nil {
		return fmt.Errorf("publish the event of batch %s: %w", s.Batch.ID, err)
	}
	var entry []byte
	for i, j := range s.Batch.Jobs {
		if j.Reply == "" {
			continue
		}
		entry = s.AppendEntry(entry[:0], i)
		err := l.conn.nc.Publish(j.Reply, entry)
		if errors.Is(err, nats.ErrMaxPayload) {
			short := fmt.Appendf(nil, `{"uid":%q,"outcome":%q,"truncated":true}`, j.UID, s.Rulings[i].Outcome)
			err = l.conn.nc.Publish(j.Reply, short)
		}
		if err != nil {
			return fmt.Errorf("answer job %s: %w", j.UID, err)
		}
	}
	return nil
}

// BeginLone implements pool.Ledger; there is no ledger to write it to.
func (l *CoreLedger) BeginLone(context.Context, jobs.Ref, int) error { return nil }
