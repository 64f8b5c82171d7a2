package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/retry"
)

// maxSettlements bounds what waits until the stream was looked at. A settlement that finds no
// place is lost: its job comes back and is recognised by the ledger.
const maxSettlements = 16 << 10

var (
	// errOtherStream is why a job cannot be extended: its stream is gone.
	errOtherStream = errors.New("the stream of the job was deleted or made again")
	errFull        = errors.New("too many settlements wait for the broker")
)

// bodies of settlements. Publishing copies them; kept, they cost no allocation per job.
type bodies struct{ ack, nak, extend []byte }

func newBodies() bodies {
	return bodies{ack: []byte("+ACK"), nak: []byte("-NAK"), extend: []byte("+WPI")}
}

// settlement is an ack or a nak that waits until it is certain which stream it would reach.
type settlement struct {
	epoch, reply string
	body         []byte
}

// Ack implements pool.Settler. The ack of a job that was delayed goes a moment later, see
// [dueAcks].
func (s *Source) Ack(done ...*jobs.Delivery) error {
	return s.respond(s.holdDue(done), "ack", s.bodies.ack)
}

// Nak implements pool.Settler. The delay is the server's business (server/consumer.go,
// processNak): the job stays pending until it is due. While draining it is no shorter than
// the last pull of this replica is open.
func (s *Source) Nak(d *jobs.Delivery, delay time.Duration) error {
	if delay = max(delay, s.openPulls()); delay <= 0 {
		return s.respond([]*jobs.Delivery{d}, "nak", s.bodies.nak)
	}
	body := make([]byte, 0, 48)
	body = append(body, `-NAK {"delay":`...)
	body = strconv.AppendInt(body, delay.Nanoseconds(), 10)
	return s.respond([]*jobs.Delivery{d}, "nak", append(body, '}'))
}

// Extend implements pool.Settler. It fails at once where the lease would not be extended:
// without a connection, for a job of a stream that is gone, and while it is not certain which
// stream there is.
func (s *Source) Extend(d *jobs.Delivery) error {
	s.mu.Lock()
	err := s.extendable(d)
	s.mu.Unlock()
	if err == nil {
		err = s.conn.nc.Publish(d.Reply, s.bodies.extend)
	}
	if err != nil {
		return fmt.Errorf("extend job %s: %w", d.Ref.UID(), err)
	}
	return nil
}

func (s *Source) extendable(d *jobs.Delivery) error {
	if err := s.setup.water.mayBeSent(d.Received); err != nil {
		return err
	}
	switch {
	case d.Ref.Epoch != s.binding.epoch:
		return errOtherStream
	case s.binding.open():
		return errUnbound
	}
	return s.conn.Healthy()
}

// respond sends the settlements of deliveries if the stream is known to be that of their jobs. If
// it was not looked at for a moment they wait until it was; those of another stream are dropped,
// for the server would settle whichever job has its sequence there.
func (s *Source) respond(done []*jobs.Delivery, verb string, body []byte) error {
	if err := s.conn.Healthy(); err != nil {
		return fmt.Errorf("%s %d jobs: %w", verb, len(done), err)
	}
	due, err := s.settleable(done, body)
	for _, d := range due {
		if sent := s.conn.nc.Publish(d.Reply, body); sent != nil {
			return fmt.Errorf("%s job %s: %w", verb, d.Ref.UID(), sent)
		}
	}
	if err != nil {
		return fmt.Errorf("%s %d jobs: %w", verb, len(done), err)
	}
	return nil
}

// settleable returns the deliveries whose settlement can go at once. Of the others, those of this
// stream wait. The error says why one of them will never go.
func (s *Source) settleable(done []*jobs.Delivery, body []byte) (due []*jobs.Delivery, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	atOnce := len(s.settlements) == 0 && s.proven(time.Now(), proofAge)
	due = make([]*jobs.Delivery, 0, len(done))
	gone := 0
	for _, d := range done {
		switch {
		case s.setup.water.lost(d.Received):
			err = ledger.ErrSetBack
		case d.Ref.Epoch != s.binding.epoch:
			gone++
		case atOnce:
			due = append(due, d)
		case len(s.settlements) >= maxSettlements:
			err = errFull
		default:
			s.settlements = append(s.settlements, settlement{epoch: d.Ref.Epoch, reply: d.Reply, body: body})
		}
	}
	if gone > 0 {
		s.log.Debug().Int("jobs", gone).Msg("settlements of a stream that is gone are dropped")
	}
	if !atOnce {
		signal(s.check)
	}
	return due, err
}

// proven reports whether the stream is known to be that of the binding, as it was seen no longer
// than age ago. The lock is held.
func (s *Source) proven(now time.Time, age time.Duration) bool {
	return !s.binding.open() && s.setup.water.current() == nil && now.Sub(s.binding.proven) <= age
}

// flush sends the settlements that wait, if the stream is certain, and drops those of others. It
// is called when the stream was looked at, however long the answer was on its way.
func (s *Source) flush() {
	s.mu.Lock()
	if !s.proven(time.Now(), answerAge) {
		s.mu.Unlock()
		return
	}
	waiting, epoch := s.settlements, s.binding.epoch
	s.settlements, s.spare = s.spare, nil
	s.mu.Unlock()
	defer s.keepSpare(waiting)
	dropped := 0
	for i := range waiting {
		switch w := &waiting[i]; {
		case w.epoch != epoch:
			dropped++
		default:
			if err := s.conn.nc.Publish(w.reply, w.body); err != nil {
				s.log.Debug().Err(err).Int("settlements", len(waiting)-i).Msg("settlements could not be sent; their jobs come back")
				return
			}
		}
	}
	if dropped > 0 {
		s.log.Warn().Int("settlements", dropped).Msg("settlements of a stream that is gone are dropped")
	}
	signal(s.wake)
}

// keepSpare keeps the memory of settlements that wait no longer for others.
func (s *Source) keepSpare(sent []settlement) {
	clear(sent)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spare = sent[:0]
}

// renew keeps the leases of what has arrived and was not handed out yet, until ctx is done: a
// pull may bring more bytes than the pool has room for, and then they wait for a batch to end.
func (s *Source) renew(ctx context.Context) {
	for retry.Wait(ctx, s.Lease()/3) == nil {
		s.mu.Lock()
		s.dropLapsed()
		// The lock is held, so that nothing is extended that the pool has settled meanwhile.
		for i := range s.ready {
			d := &s.ready[i]
			if s.extendable(d) != nil || s.conn.nc.Publish(d.Reply, s.bodies.extend) != nil {
				break
			}
			d.Received = time.Now()
		}
		s.mu.Unlock()
	}
}

// dropLapsed forgets what waits here and is no longer ours: a process that was stopped for a
// while finds it as it left it. The lock is held.
func (s *Source) dropLapsed() {
	if len(s.ready) == 0 {
		return
	}
	lease, now, before := s.lease(), time.Now(), len(s.ready)
	s.ready = slices.DeleteFunc(s.ready, func(d jobs.Delivery) bool {
		if elapsed(d.Received, now) < lease {
			return false
		}
		s.readyBytes -= int64(len(d.Data))
		return true
	})
	if n := before - len(s.ready); n > 0 {
		s.log.Warn().Int("jobs", n).Msg("leases lapsed before their jobs were begun; the jobs come back")
	}
}

// elapsed returns how much time has passed from t to now, also while the machine was suspended:
// then the monotonic clock stands still and only the wall clock goes on.
func elapsed(t, now time.Time) time.Duration {
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}

// openPulls is how long the broker may still answer the pulls of a draining source; 0 if it
// is not draining or has none. A job given back sooner would be handed to the very replica
// that gives it back, again and again until the pull is used up, and each hand-over counts:
// after one drain its next worker would take it for a job that crashes workers.
func (s *Source) openPulls() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.draining || len(s.pulls.live) == 0 {
		return 0
	}
	var last time.Time
	for _, p := range s.pulls.live {
		if p.ends.After(last) {
			last = p.ends
		}
	}
	return max(time.Until(last)-pullGrace+pullLag, 0)
}

// giveBack naks a delivery that nobody will work on here. If that fails it comes back by
// itself when its lease is over.
func (s *Source) giveBack(d *jobs.Delivery) {
	if err := s.Nak(d, 0); err != nil {
		s.log.Debug().Err(err).Msg("could not give a job back")
	}
}
