package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/retry"
)

// Source hands out the deliveries of a JetStream pull consumer. It speaks the pull protocol
// itself, on one subscription: many messages per request, several requests at once, and
// everything that has arrived in one hand-over.
//
//	Receive ──pull n──▶ $JS.API.CONSUMER.MSG.NEXT ──▶ broker
//	   ▲                                                │
//	   │ ready                                          ▼
//	   └────────────── accept ◀── deliveries, and a status that ends each pull
//
// Every pull ends with a status message: because it has max_bytes, the server also says
// when it is complete (server/consumer.go, loopAndGatherMsgs: "Batch Completed"). So what
// is still to come is known, and the room is never exceeded.
type Source struct {
	conn   *Conn
	setup  *Setup
	log    zerolog.Logger
	next   string
	wake   chan struct{} // something arrived, or there is room to ask again
	check  chan struct{} // there is a reason to look at stream and consumer
	bodies bodies
	// draw returns a random number in [0, n), for ranks.
	draw func(n int) int
	// missing is since when stream or consumer are, as far as watch knows.
	missing time.Time

	mu    sync.Mutex
	sub   *nats.Subscription
	inbox string
	// draining is set at the end of the intake.
	draining   bool
	ready      []jobs.Delivery
	readyBytes int64
	// lent is what Receive returned last.
	lent    []jobs.Delivery
	pulls   pulls
	binding binding
	// settlements wait until it is certain which stream they would reach; spare is the memory of
	// those that waited before.
	settlements, spare []settlement
	// due are acks of delayed jobs.
	due dueAcks
	// refusals and unanswered count the pulls in a row that the broker refused, and those that
	// it did not answer at all. retry paces what follows from them.
	refusals, unanswered int
	retry                retry.Backoff
	// lastAnswer is when the broker last answered a pull.
	lastAnswer time.Time
}

// NewSource returns the source of the pool that setup is for. It does nothing before
// [Source.Run]; at the end [Source.Close] must be called.
func NewSource(conn *Conn, setup *Setup, log zerolog.Logger) *Source {
	s := &Source{
		conn: conn, setup: setup, log: log,
		next:  conn.NextSubject(setup.streams.Stream, setup.pool),
		inbox: conn.nc.NewInbox() + ".",
		wake:  make(chan struct{}, 1), check: make(chan struct{}, 1),
		due:  dueAcks{wake: make(chan struct{}, 1)},
		draw: rand.IntN, bodies: newBodies(), binding: newBinding(),
		retry: retry.Backoff{Lo: minRebind, Hi: maxRebind}, pulls: pulls{window: window{size: firstWindow}},
	}
	conn.onResume(s.resume)
	setup.water.onSetBack(s.drop)
	return s
}

// Run finds stream and consumer, keeps an eye on them, and keeps the leases of what was not
// handed out yet. It returns nil when ctx is done, which must not be before the last
// settlement and [Source.Close].
func (s *Source) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	parts.Go(func() { s.renew(ctx) })
	parts.Go(func() { s.sweepDue(ctx) })
	s.watch(ctx)
	parts.Wait()
	return nil
}

// Receive implements pool.Source. One goroutine calls it. When ctx ends the source drains, see
// [Source.Drain]. A missing stream or consumer is no error: Receive waits for it, and with
// ROLLCALL_ENSURE it is made again after a while.
//
// The deliveries may be used until the next call.
//
// The bytes of the room may be exceeded by as much as a message of the server's max payload
// weighs: a pull for less than that could be refused for ever.
func (s *Source) Receive(ctx context.Context, room jobs.Room) ([]jobs.Delivery, error) {
	for {
		if ctx.Err() != nil {
			s.Drain()
			return nil, context.Cause(ctx)
		}
		deliveries := s.take(room.Jobs)
		if len(deliveries) > 0 {
			room.Jobs -= len(deliveries)
			for i := range deliveries {
				room.Bytes -= int64(len(deliveries[i].Data))
			}
		}
		due, err := s.ask(room)
		if err != nil {
			return nil, err
		}
		if len(deliveries) > 0 {
			return deliveries, nil
		}
		if err := s.wait(ctx, due); err != nil {
			return nil, err
		}
	}
}

// wait returns when something happened or due has come. An error means that the connection
// is gone for good.
func (s *Source) wait(ctx context.Context, due time.Time) error {
	var overdue <-chan time.Time
	if !due.IsZero() {
		t := time.NewTimer(time.Until(due))
		defer t.Stop()
		overdue = t.C
	}
	select {
	case <-s.wake:
	case <-overdue:
	case <-ctx.Done():
	case <-s.conn.closed:
		return fmt.Errorf("receive jobs: %w", errors.Join(ErrClosed, s.conn.Err()))
	}
	return nil
}

// take returns at most n of the deliveries that have arrived.
func (s *Source) take(n int) (deliveries []jobs.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropLapsed()
	clear(s.lent)
	s.lent = s.lent[:0]
	if len(s.ready) <= n {
		s.lent, s.ready, s.readyBytes = s.ready, s.lent, 0
		return s.lent
	}
	s.lent = append(s.lent, s.ready[:n]...)
	rest := append(s.ready[:0], s.ready[n:]...)
	clear(s.ready[len(rest):])
	s.ready = rest
	for i := range s.lent {
		s.readyBytes -= int64(len(s.lent[i].Data))
	}
	return s.lent
}

// smallHeader is how many bytes of headers may be held twice, see bodyOf.
const smallHeader = 2 << 10

// bodyOf returns the body of a message. nats.go reads headers into texts of their own, and the body
// is the end of a buffer that holds them as well; so that large ones are not held twice, the body
// is copied.
func bodyOf(m *nats.Msg) []byte {
	if header := m.Size() - len(m.Subject) - len(m.Reply) - len(m.Data); header > smallHeader {
		return bytes.Clone(m.Data)
	}
	return m.Data
}

// accept takes what arrives on the inbox. A delivery keeps the subject of its job; a status
// has the subject of its pull.
func (s *Source) accept(m *nats.Msg) {
	if number, ok := strings.CutPrefix(m.Subject, s.inbox); ok {
		s.endPull(m, number)
		return
	}
	ack, ok := parseAckReply(m.Reply)
	if !ok {
		s.log.Warn().Str("subject", m.Subject).Msg("a message without JetStream metadata reached the inbox of pulls and is ignored")
		return
	}
	d := jobs.Delivery{
		Subject: m.Subject, Header: m.Header, Data: bodyOf(m), Reply: m.Reply,
		Ref: jobs.Ref{Seq: ack.streamSeq}, Delivered: int(ack.delivered),
		Published: ack.published, Received: time.Now(),
	}
	s.setup.water.delivered(ack.streamSeq)
	s.mu.Lock()
	s.pulls.arrived(int64(m.Size()))
	s.answered(d.Received)
	first := len(s.ready) == 0
	admitted := s.binding.admit(&d, ack.consumerSeq)
	draining := s.draining
	if admitted && !draining {
		s.ready = append(s.ready, d)
		s.readyBytes += int64(len(d.Data))
	}
	s.mu.Unlock()
	switch {
	case !admitted:
		signal(s.check)
	case draining:
		back := d // a copy, so that a delivery which is handed out is none of the heap's
		s.giveBack(&back)
	case first:
		signal(s.wake)
	}
}

// answered notes that the broker answers pulls as it should. The lock is held.
func (s *Source) answered(now time.Time) {
	s.lastAnswer = now
	s.retry.Reset()
	if s.refusals > 0 || s.unanswered > 0 {
		s.refusals, s.unanswered = 0, 0
		if !s.binding.open() && s.binding.fault != nil {
			s.binding.fault, s.binding.logged = nil, false
			s.log.Info().Msg("the broker answers pulls again")
		}
	}
}

// Drain ends the intake: nothing more is asked for, and what has arrived or still arrives
// goes back.
func (s *Source) Drain() {
	s.mu.Lock()
	s.draining = true
	back := s.ready
	s.ready, s.readyBytes = nil, 0
	s.mu.Unlock()
	for i := range back {
		s.giveBack(&back[i])
	}
	signal(s.wake)
}

// Close ends the intake and waits until every outstanding pull has ended, which takes
// [pullExpiry] at most while the broker is there: deliveries under way are given back
// instead of being lost until their lease is over. It waits for the settlements too. It must
// not be called while Receive may still be.
func (s *Source) Close(ctx context.Context) error {
	s.Drain()
	for {
		s.mu.Lock()
		due := s.expire(time.Now())
		waiting := len(s.settlements) > 0 || len(s.binding.held) > 0 || len(s.due.waiting) > 0 || s.due.sweeping
		s.mu.Unlock()
		if due.IsZero() && !waiting || s.wait(ctx, due) != nil || ctx.Err() != nil {
			break
		}
	}
	s.mu.Lock()
	sub := s.sub
	s.sub = nil
	s.mu.Unlock()
	if sub == nil {
		return nil
	}
	return unsubscribe(sub)
}

// drop forgets what has arrived and was not handed out, and the settlements that wait: the
// broker has lost what they are about.
func (s *Source) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready, s.readyBytes, s.binding.held, s.settlements, s.due.waiting = nil, 0, nil, nil, nil
}

func signal(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
