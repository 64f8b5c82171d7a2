package bus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
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
// Every pull ends with a status message: because it has max_bytes, the server tells also
// that it is complete (server/consumer.go, loopAndGatherMsgs: "Batch Completed"). So what
// is still to come is known, and the room is never exceeded.
type Source struct {
	conn   *Conn
	setup  *Setup
	log    zerolog.Logger
	next   string
	inbox  string
	wake   chan struct{}
	bodies bodies
	intake sync.Once
	// release ends the renewal of the leases of what waits here, renewing is done when it has.
	release  context.CancelFunc
	renewing sync.WaitGroup
	// draw returns a random number in [0, n), for ranks.
	draw func(n int) int
	// missing is since when stream or consumer are, as far as Receive knows.
	missing time.Time

	mu         sync.Mutex
	sub        *nats.Subscription
	draining   bool
	ready      []jobs.Delivery
	readyBytes int64
	pulls      pulls
	binding    binding
}

// NewSource returns the source of the pool that setup is for. [Source.Close] must be called.
func NewSource(conn *Conn, setup *Setup, log zerolog.Logger) *Source {
	s := &Source{
		conn: conn, setup: setup, log: log,
		next:    NextSubject(setup.streams.Stream, setup.pool),
		inbox:   conn.nc.NewInbox() + ".",
		wake:    make(chan struct{}, 1),
		release: func() {},
		draw:    rand.IntN,
		bodies:  newBodies(),
		binding: newBinding(),
	}
	conn.onResume(s.doubt)
	setup.water.onSetBack(s.drop)
	return s
}

// Receive implements pool.Source. One goroutine calls it. The context of the first call
// governs the intake: when it ends, what still arrives is given back at once, whether
// Receive is called again or not. A missing stream or consumer is no error: Receive waits
// for it, and with ROLLCALL_ENSURE makes it again after a while.
//
// The bytes of the room may be exceeded by as much as a message of the server's max payload
// weighs: a pull for less than that could be refused for ever.
func (s *Source) Receive(ctx context.Context, room jobs.Room) ([]jobs.Delivery, error) {
	s.intake.Do(func() {
		context.AfterFunc(ctx, s.drain)
		held, release := context.WithCancel(ctx)
		s.release = release
		s.renewing.Go(func() { s.renew(held) })
	})
	for {
		if ctx.Err() != nil {
			s.drain()
			return nil, context.Cause(ctx)
		}
		deliveries, doubted := s.take(room.Jobs)
		if len(deliveries) > 0 {
			room.Jobs -= len(deliveries)
			for i := range deliveries {
				room.Bytes -= int64(len(deliveries[i].Data))
			}
		}
		if doubted && len(deliveries) == 0 {
			if err := s.rebind(ctx); err != nil {
				return nil, err
			}
			continue
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
func (s *Source) take(n int) (deliveries []jobs.Delivery, doubted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ready) == 0 {
		return nil, s.binding.doubted()
	}
	if len(s.ready) <= n {
		deliveries, s.ready, s.readyBytes = s.ready, make([]jobs.Delivery, 0, len(s.ready)), 0
		return deliveries, s.binding.doubted()
	}
	deliveries = append(deliveries, s.ready[:n]...)
	s.ready = append(s.ready[:0], s.ready[n:]...)
	for i := range deliveries {
		s.readyBytes -= int64(len(deliveries[i].Data))
	}
	return deliveries, s.binding.doubted()
}

// ask keeps as much asked for at the broker as there is room, and returns when the next
// pull is overdue.
func (s *Source) ask(room jobs.Room) (due time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	due = s.pulls.expire(now)
	if s.draining || s.binding.doubted() {
		return due, nil
	}
	if !s.conn.online() {
		// A pull could be answered before the reconnect is known here. The reconnect wakes us,
		// at the latest the time does.
		return now.Add(pullGrace), nil
	}
	waiting := jobs.Room{Jobs: len(s.ready), Bytes: s.readyBytes}
	n, bytes := s.pulls.size(room, waiting, s.conn.nc.MaxPayload()+messageOverhead)
	if n == 0 {
		return due, nil
	}
	if s.sub == nil {
		if err := s.subscribe(); err != nil {
			return due, err
		}
	}
	number := s.pulls.begin(n, bytes, now)
	// A consumer without ranks, such as one that a person made, ignores group and priority.
	request := fmt.Appendf(nil, `{"batch":%d,"max_bytes":%d,"expires":%d,"group":%q,"priority":%d}`,
		n, bytes, pullExpiry.Nanoseconds(), priorityGroup, s.pulls.turn(now, s.draw))
	err = s.conn.nc.PublishRequest(s.next, s.inbox+strconv.FormatUint(number, 10), request)
	if errors.Is(err, nats.ErrReconnectBufExceeded) {
		// Nothing was sent. The reconnect wakes us.
		s.pulls.ended(number, n, bytes, now)
		return now.Add(pullGrace), nil
	}
	if err != nil {
		return due, fmt.Errorf("ask for jobs: %w", err)
	}
	if due.IsZero() {
		due = s.pulls.live[number].ends
	}
	return due, nil
}

// subscribe opens the inbox of all pulls. It holds at most what was asked for, so the
// client's own limits would only lose messages.
func (s *Source) subscribe() error {
	sub, err := s.conn.nc.Subscribe(s.inbox+"*", s.accept)
	if err != nil {
		return fmt.Errorf("subscribe to the inbox of pulls: %w", err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return fmt.Errorf("lift the limits of the inbox of pulls: %w", errors.Join(err, sub.Unsubscribe()))
	}
	s.sub = sub
	return nil
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
		Subject: m.Subject, Header: m.Header, Data: m.Data, Reply: m.Reply,
		Ref: jobs.Ref{Seq: ack.streamSeq}, Delivered: int(ack.delivered),
		Published: ack.published, Received: time.Now(),
	}
	s.setup.water.delivered(ack.streamSeq)
	s.mu.Lock()
	s.pulls.arrived(int64(m.Size()))
	if s.draining {
		s.mu.Unlock()
		s.giveBack(&d)
		return
	}
	first := len(s.ready) == 0
	if s.binding.admit(&d, ack.consumerSeq) {
		s.ready = append(s.ready, d)
		s.readyBytes += int64(len(d.Data))
	}
	s.mu.Unlock()
	if first {
		s.signal()
	}
}

// endPull reads the status that ends a pull. One that tells what was not delivered is the
// normal end: time-out, batch completed, bytes used up. Any other means that something
// happened to the consumer.
func (s *Source) endPull(m *nats.Msg, number string) {
	n, ok := parseUint(number)
	status := m.Header.Get("Status")
	if !ok || status == "" {
		return
	}
	undelivered, told := parseUint(m.Header.Get("Nats-Pending-Messages"))
	bytes, _ := parseUint(m.Header.Get("Nats-Pending-Bytes"))
	s.mu.Lock()
	if told {
		s.pulls.ended(n, int(undelivered), int64(bytes), time.Now())
		s.binding.retry.Reset()
	} else {
		s.pulls.writeOff(n)
		s.binding.doubts++
	}
	s.mu.Unlock()
	if !told {
		s.log.Debug().Str("status", status).Str("description", m.Header.Get("Description")).Msg("a pull was refused")
	}
	s.signal()
}

// drop forgets what has arrived and was not handed out: the broker has lost it.
func (s *Source) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready, s.readyBytes, s.binding.held = nil, 0, nil
}

func (s *Source) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
