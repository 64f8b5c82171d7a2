package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
)

const (
	// Bounds of the jobs that may wait in this process in core mode, over all subjects. The client
	// drops further jobs and reports a slow consumer: nothing holds producers back.
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
	// draining is closed at the end of the intake, drained when nothing more arrives, ended when
	// nothing more is handed out.
	draining, drained, ended chan struct{}
	drain, end               sync.Once
	lost                     atomic.Int64

	mu   sync.Mutex
	subs []*nats.Subscription
}

// NewCoreSource returns the source of a pool in core mode. It subscribes in [CoreSource.Run]; at
// the end [CoreSource.Close] must be called.
func NewCoreSource(conn *Conn, streams Streams, pool string, log zerolog.Logger) (*CoreSource, error) {
	if err := streams.Validate(); err != nil {
		return nil, err
	}
	return &CoreSource{
		conn: conn, streams: streams, pool: pool, log: log,
		arrived:  make(chan jobs.Delivery, coreBuffer),
		draining: make(chan struct{}), drained: make(chan struct{}), ended: make(chan struct{}),
	}, nil
}

// Run subscribes, and at the end of the intake, or when ctx is done, unsubscribes. It returns
// once all that had arrived was handed out, with an error if it could not subscribe.
func (s *CoreSource) Run(ctx context.Context) error {
	defer close(s.drained)
	if err := s.subscribe(); err != nil {
		return err
	}
	select {
	case <-s.draining:
	case <-s.ended:
	case <-ctx.Done():
	}
	s.unsubscribe()
	return nil
}

// Drain ends the intake, and with it the subscriptions. Jobs that have arrived by then are still
// handed out: nobody else has them, and they cannot be given back.
func (s *CoreSource) Drain() { s.drain.Do(func() { close(s.draining) }) }

// Receive implements pool.Source. When ctx ends the source drains, and once all was handed out
// Receive returns the cause of ctx.
func (s *CoreSource) Receive(ctx context.Context, room jobs.Room) (deliveries []jobs.Delivery, err error) {
	defer context.AfterFunc(ctx, s.Drain)()
	select {
	case d := <-s.arrived:
		deliveries = append(deliveries, d)
		room.Bytes -= int64(len(d.Data))
	case <-s.drained:
		if len(s.arrived) == 0 {
			return nil, context.Cause(ctx)
		}
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
		s.conn.need(subject)
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
		Subject: m.Subject, Header: m.Header, Data: bodyOf(m), Reply: m.Reply,
		Source: "/rollcall/core/" + s.pool, UID: "core." + nuid.Next(),
		Delivered: 1, Published: now, Received: now,
	}
	select {
	case s.arrived <- d:
	case <-s.ended:
		s.lost.Add(1)
	}
}

// unsubscribe ends the subscriptions and returns when they have handed over what they held.
func (s *CoreSource) unsubscribe() {
	s.mu.Lock()
	subs := s.subs
	s.mu.Unlock()
	closed := make(chan struct{}, len(subs)) // one for each subscription
	for _, sub := range subs {
		sub.SetClosedHandler(func(string) { closed <- struct{}{} }) // called after its last message
		if err := sub.Drain(); err != nil {
			s.log.Warn().Err(err).Str("subject", sub.Subject).Msg("could not unsubscribe")
			closed <- struct{}{}
		}
	}
	for range subs {
		select {
		case <-closed:
		case <-s.ended:
		case <-s.conn.closed:
		}
	}
}

// Ack implements pool.Settler; there is nothing to ack.
func (s *CoreSource) Ack(...*jobs.Delivery) error { return nil }

// Nak implements pool.Settler; nothing comes back.
func (s *CoreSource) Nak(*jobs.Delivery, time.Duration) error {
	s.lost.Add(1)
	return nil
}

// Extend implements pool.Settler; there is no lease.
func (s *CoreSource) Extend(*jobs.Delivery) error { return nil }

// Lease is nobody else's concern: what has arrived is not handed to others.
func (s *CoreSource) Lease() time.Duration { return s.streams.AckWait }

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

// Close ends the subscriptions and waits until they have, or ctx is done. Jobs that have arrived
// and were not handed out are lost.
func (s *CoreSource) Close(ctx context.Context) error {
	s.end.Do(func() { close(s.ended) })
	s.mu.Lock()
	subs := s.subs
	s.mu.Unlock()
	if len(subs) > 0 {
		select {
		case <-s.drained:
		case <-ctx.Done():
		}
	}
	var errs []error
	for _, sub := range subs {
		if n, _, err := sub.Pending(); err == nil {
			s.lost.Add(int64(n))
		}
		if sub.IsValid() {
			errs = append(errs, unsubscribe(sub))
		}
	}
	if lost := s.lost.Load() + int64(len(s.arrived)); lost > 0 {
		s.log.Warn().Int64("jobs", lost).Msg("jobs that were not done are lost: core mode delivers at most once")
	}
	return errors.Join(errs...)
}

// CoreLedger remembers nothing: it publishes the completion event on its plain subject and answers
// the producers.
type CoreLedger struct{ conn *Conn }

// NewCoreLedger returns the ledger of core mode.
func NewCoreLedger(conn *Conn) *CoreLedger { return &CoreLedger{conn: conn} }

// Load implements pool.Ledger: nothing is known of any job.
func (l *CoreLedger) Load(_ context.Context, refs []jobs.Ref) ([]jobs.Record, error) {
	return make([]jobs.Record, len(refs)), nil
}

// Commit implements pool.Ledger. Every job that carries a reply subject is answered with its
// entry of the event's jobs, in full even where the event was cut. While the connection is
// away it waits, until ctx ends.
func (l *CoreLedger) Commit(ctx context.Context, s *jobs.Settlement) error {
	event := &nats.Msg{
		Subject: BatchSubject(s.Batch.Pool, s.Outcome, s.Batch.ID),
		Header:  nats.Header{"Content-Type": {jobs.MediaEvent}}, Data: s.Event,
	}
	if s.Batch.Traceparent != "" {
		event.Header["traceparent"] = []string{s.Batch.Traceparent}
	}
	if err := l.conn.publishOnline(ctx, event); err != nil {
		return fmt.Errorf("publish the event of batch %s: %w", s.Batch.ID, err)
	}
	var entry []byte
	for i, j := range s.Batch.Jobs {
		if j.Reply == "" {
			continue
		}
		entry = s.AppendEntry(entry[:0], i)
		err := l.conn.publishOnline(ctx, &nats.Msg{Subject: j.Reply, Data: entry})
		if errors.Is(err, nats.ErrMaxPayload) {
			short := fmt.Appendf(nil, `{"uid":%q,"outcome":%q,"truncated":true}`, j.UID, s.Rulings[i].Outcome)
			err = l.conn.publishOnline(ctx, &nats.Msg{Subject: j.Reply, Data: short})
		}
		if err != nil {
			return fmt.Errorf("answer job %s: %w", j.UID, err)
		}
	}
	return nil
}

// Mark implements pool.Ledger; there is no ledger to write it to.
func (l *CoreLedger) Mark(context.Context, []jobs.Mark) error { return nil }
