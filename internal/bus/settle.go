package bus

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"rollcall/internal/jobs"
)

// bodies of settlements. Publishing copies them; kept, they cost no allocation per job.
type bodies struct{ ack, nak, extend []byte }

func newBodies() bodies {
	return bodies{ack: []byte("+ACK"), nak: []byte("-NAK"), extend: []byte("+WPI")}
}

// Ack implements pool.Settler.
func (s *Source) Ack(d *jobs.Delivery) error { return s.settle(d, "ack", s.bodies.ack) }

// Nak implements pool.Settler. The delay is the server's business (server/consumer.go,
// processNak): the job stays pending until it is due. While draining it is no shorter than
// the last pull of this replica is open.
func (s *Source) Nak(d *jobs.Delivery, delay time.Duration) error {
	if delay = max(delay, s.openPulls()); delay <= 0 {
		return s.settle(d, "nak", s.bodies.nak)
	}
	body := make([]byte, 0, 48)
	body = append(body, `-NAK {"delay":`...)
	body = strconv.AppendInt(body, delay.Nanoseconds(), 10)
	return s.settle(d, "nak", append(body, '}'))
}

// Extend implements pool.Settler. Without a connection it fails at once instead of waiting in
// the client's buffer: a lease that is only extended there is not extended.
func (s *Source) Extend(d *jobs.Delivery) error {
	if err := s.conn.Healthy(); err != nil {
		return fmt.Errorf("extend job %s: %w", d.Ref.UID(), err)
	}
	return s.settle(d, "extend", s.bodies.extend)
}

// renew keeps the leases of what has arrived and was not handed out yet, until ctx is done: a
// pull may bring more bytes than the pool has room for, and then they wait for a batch to end.
// It holds the lock, so that nothing is extended that the pool has settled meanwhile.
func (s *Source) renew(ctx context.Context) {
	tick := time.NewTicker(s.setup.streams.AckWait / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		for i := range s.ready {
			if s.Extend(&s.ready[i]) != nil {
				break
			}
			s.ready[i].Received = time.Now()
		}
		s.mu.Unlock()
	}
}

func (s *Source) settle(d *jobs.Delivery, verb string, body []byte) error {
	if err := s.setup.water.mayBeSent(d.Received); err != nil {
		return fmt.Errorf("%s job %s: %w", verb, d.Ref.UID(), err)
	}
	if err := s.conn.nc.Publish(d.Reply, body); err != nil {
		return fmt.Errorf("%s job %s: %w", verb, d.Ref.UID(), err)
	}
	return nil
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
// itself after AckWait.
func (s *Source) giveBack(d *jobs.Delivery) {
	if err := s.Nak(d, 0); err != nil {
		s.log.Debug().Err(err).Msg("could not give a job back")
	}
}

// drain ends the intake: nothing more is asked for, and what has arrived or still arrives
// goes back.
func (s *Source) drain() {
	s.mu.Lock()
	s.draining = true
	back := append(s.ready, s.binding.held...)
	s.ready, s.readyBytes, s.binding.held = nil, 0, nil
	s.mu.Unlock()
	for i := range back {
		s.giveBack(&back[i])
	}
	s.signal()
}

// Close ends the intake and waits until every outstanding pull has ended, which takes
// [pullExpiry] at most while the broker is there: deliveries under way are given back
// instead of being lost until AckWait. It must not be called while Receive may still be.
func (s *Source) Close(ctx context.Context) error {
	s.drain()
	s.release()
	s.renewing.Wait()
	for {
		s.mu.Lock()
		due := s.pulls.expire(time.Now())
		s.mu.Unlock()
		if due.IsZero() || s.wait(ctx, due) != nil || ctx.Err() != nil {
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
