package bus

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/retry"
)

// headerSourced is in what a stream has sourced: name and sequence of where it comes from, and
// more. The server refuses it from a producer (stream.go, JSMessageSourceHdrNotAllowedErr).
const headerSourced = "Nats-Stream-Source"

const (
	// enteredTries and enteredPoll are how often, and how far apart, a job stream is asked what has entered it. It
	// does not say while it has no leader.
	enteredTries = 10
	enteredPoll  = 500 * time.Millisecond
)

// dueAcks are acks that wait until LATER is swept up to their jobs. The server keeps how far it has
// sourced LATER in an index that it writes every two minutes, and finds what came after in the
// messages of the job stream (filestore.go, recoverSourcesState). Where those are acked a crash
// makes it source them once more, unless they have left LATER before.
type dueAcks struct {
	// waiting are deliveries without their bodies.
	waiting []*jobs.Delivery
	// sweeping reports that LATER is being swept for some that do not wait any more.
	sweeping bool
	wake     chan struct{}
	// logged reports that the log has it that LATER cannot be swept.
	logged bool
}

// laterSeq returns the sequence in LATER of a job that was delayed, 0 for any other.
func laterSeq(d *jobs.Delivery) uint64 {
	values := d.Header[headerSourced]
	if len(values) == 0 {
		return 0
	}
	rest, ok := strings.CutPrefix(values[0], StreamLater+" ")
	if !ok {
		return 0
	}
	text, _, _ := strings.Cut(rest, " ")
	seq, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return seq
}

func wasDelayed(d *jobs.Delivery) bool { return laterSeq(d) > 0 }

// holdDue keeps the acks of delayed jobs back and returns the others. Those that find no place are
// not sent: their jobs come back, and the ledger recognises them.
func (s *Source) holdDue(done []*jobs.Delivery) (others []*jobs.Delivery) {
	if !slices.ContainsFunc(done, wasDelayed) {
		return done
	}
	defer signal(s.due.wake)
	s.mu.Lock()
	defer s.mu.Unlock()
	others = make([]*jobs.Delivery, 0, len(done))
	for _, d := range done {
		if !wasDelayed(d) {
			others = append(others, d)
			continue
		}
		if len(s.due.waiting) < maxSettlements {
			held := *d
			held.Data = nil
			s.due.waiting = append(s.due.waiting, &held)
		}
	}
	return others
}

// sweepDue sweeps LATER for the acks that wait, and sends them, until ctx is done.
func (s *Source) sweepDue(ctx context.Context) {
	for {
		select {
		case <-s.due.wake:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		waiting := s.due.waiting
		s.due.waiting, s.due.sweeping = nil, len(waiting) > 0
		s.mu.Unlock()
		s.settleDue(ctx, waiting)
		s.mu.Lock()
		s.due.sweeping = false
		s.mu.Unlock()
		signal(s.wake)
	}
}

// settleDue sends acks once LATER is swept up to their jobs. Where it never will be they are
// sent all the same; where the broker is away they are not, and the jobs come back.
func (s *Source) settleDue(ctx context.Context, waiting []*jobs.Delivery) {
	for tries := 1; len(waiting) > 0; tries++ {
		early, err := s.conn.SweepDue(ctx, s.setup.streams.Stream, waiting...)
		switch {
		case err == nil, errors.Is(err, ErrMissing):
		case errors.Is(err, ErrDenied):
			if !s.due.logged {
				s.due.logged = true
				s.log.Warn().Err(err).Msg("delayed jobs that are done stay in LATER, and a crash of the broker may repeat them")
			}
		default:
			s.log.Debug().Err(err).Int("jobs", len(waiting)).Msg("acks of delayed jobs not sent; the jobs come back")
			return
		}
		if err := s.respond(without(waiting, early), "ack", s.bodies.ack); err != nil {
			s.log.Debug().Err(err).Int("jobs", len(waiting)).Msg("acks of delayed jobs not sent")
		}
		if waiting = early; len(waiting) > 0 && (tries == enteredTries || retry.Wait(ctx, enteredPoll) != nil) {
			s.log.Debug().Int("jobs", len(waiting)).Msg("acks of delayed jobs not sent: the broker does not say whether they have entered the job stream; the jobs come back")
			return
		}
	}
}

// without returns all deliveries but some of them, which stand in the same order.
func without(all, some []*jobs.Delivery) []*jobs.Delivery {
	if len(some) == 0 {
		return all
	}
	rest := make([]*jobs.Delivery, 0, len(all)-len(some))
	for _, d := range all {
		if len(some) > 0 && some[0] == d {
			some = some[1:]
		} else {
			rest = append(rest, d)
		}
	}
	return rest
}

// SweepDue removes from LATER what has entered the job stream up to the last of some jobs of that
// stream, which must be done before they leave it, see [dueAcks]. It returns those that may not leave it yet, in their
// order: the server does not say whether they have entered. The error wraps [ErrMissing] if there is
// no LATER, [ErrDenied] if the user has no right to.
//
// Where a job comes from is what its headers say, and a producer can smuggle in that it was delayed: behind a bare
// line feed, which nats.go takes for the end of a header and the server does not. So nothing goes that has not entered.
func (c *Conn) SweepDue(ctx context.Context, jobStream string, done ...*jobs.Delivery) (early []*jobs.Delivery, err error) {
	ctx, cancel := context.WithTimeout(ctx, dueTimeout)
	defer cancel()
	if !slices.ContainsFunc(done, wasDelayed) {
		return nil, nil
	}
	later, err := c.Stream(ctx, StreamLater)
	if err != nil {
		return nil, err
	}
	stream, err := c.Stream(ctx, jobStream)
	if err != nil {
		return nil, err
	}
	into, from := stream.CachedInfo(), later.CachedInfo()
	if !takesDelayed(&into.Config) {
		return nil, nil // whatever delayed jobs it has, it sources none again
	}
	entered, known := entered(into, from)
	var last uint64
	for _, d := range done {
		switch seq := laterSeq(d); {
		case !d.Published.After(from.Created): // a LATER that stood before this one numbered it
		case seq <= entered:
			last = max(last, seq)
		case known && d.Ref.Seq <= into.State.LastSeq: // what is stored has entered, so it was never delayed
		case seq <= from.State.LastSeq:
			early = append(early, d)
		}
	}
	if last > 0 {
		_, err = c.sweepDue(ctx, last)
	}
	return early, err
}
