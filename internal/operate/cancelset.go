package operate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

const (
	// cancelRounds is how often a set is gone through for members that were between two streams.
	cancelRounds = 3
	// cancelParallel is how many jobs of a set are cancelled at once: they share atomic publishes.
	cancelParallel = 256
)

// Cancellation is what cancelling a set came to.
type Cancellation struct {
	// Cancelled jobs are final now; Ended were already.
	Cancelled int `json:"cancelled"`
	Ended     int `json:"ended"`
}

// CancelSet cancels every member of a set that is open: in the job stream, and delayed.
func (a *Admin) CancelSet(ctx context.Context, who, set string) (done Cancellation, err error) {
	if !jobs.ValidSet(set) {
		return done, fmt.Errorf("%q: %w", set, ErrSetName)
	}
	pool, err := a.asItStands(ctx)
	if err != nil {
		return done, err
	}
	err = pool.cancelling(ctx, who, func(ctx context.Context, c *canceller) error {
		member := func(m *jetstream.RawStreamMsg) bool {
			j := decodeStored(m, c.epoch)
			return j.Set == set
		}
		var left leftError
		for range cancelRounds { // a member that has just become due enters meanwhile
			left = leftError{}
			if err := c.cancelOpen(ctx, member, &done, &left); err != nil || left.members == 0 {
				return err
			}
		}
		return &left
	})
	if err == nil && done == (Cancellation{}) {
		_, err = a.Set(ctx, set) // a set without any member stored may be a wrong name
	}
	return done, err
}

// cancelOpen cancels the members of a set that are open: those in LATER first, so that what becomes due meanwhile is
// found in the job stream.
func (c *canceller) cancelOpen(ctx context.Context, member func(*jetstream.RawStreamMsg) bool, done *Cancellation, left *leftError) (err error) {
	if err := c.cancelDelayedMembers(ctx, member, done, left); err != nil {
		return err
	}
	if c.stream, err = c.conn.Stream(ctx, c.streams.Stream); err != nil {
		return err
	}
	for _, filter := range c.streams.Subjects {
		if err := c.cancelMembers(ctx, c.stream, filter, member, anyMessage, c.cancel, done, left); err != nil {
			return err
		}
	}
	return nil
}

// leftError says that some members of a set could not be cancelled, and why not one of them.
type leftError struct {
	members int
	reason  error
}

func (e *leftError) Error() string {
	return fmt.Sprintf("%d of its members are left, among them %v", e.members, e.reason)
}

func (e *leftError) Unwrap() error { return e.reason }

// cancelDelayedMembers cancels the members of a set that wait in LATER, but for those that are due.
func (c *canceller) cancelDelayedMembers(ctx context.Context, member func(*jetstream.RawStreamMsg) bool, done *Cancellation, left *leftError) error {
	later, err := c.laterIfAny(ctx)
	if err != nil || later == nil {
		return err
	}
	end := func(ctx context.Context, m *jetstream.RawStreamMsg) error { return c.endDelayed(ctx, later, m) }
	if err := c.cancelMembers(ctx, later, bus.LaterSubject(">"), member, c.takesOnceDue, end, done, left); err != nil {
		return err
	}
	waiting, err := c.dueWaiting(ctx, later)
	if err != nil {
		return err
	}
	return c.cancelMembers(ctx, later, bus.SubjectsDue, member, waiting, end, done, left)
}

// cancelMembers cancels the members of a set among the messages of a stream that are counted in, many at once.
// Those that cannot be cancelled now are left.
func (c *canceller) cancelMembers(ctx context.Context, stream jetstream.Stream, filter string, member, counts func(*jetstream.RawStreamMsg) bool,
	cancel func(context.Context, *jetstream.RawStreamMsg) error, done *Cancellation, left *leftError,
) error {
	var work sync.WaitGroup
	defer work.Wait()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	slots := make(chan struct{}, cancelParallel)
	last := stream.CachedInfo().State.LastSeq // what comes later may be of this command
	err := c.scan(ctx, stream, filter, math.MaxInt, member, func(m *jetstream.RawStreamMsg) bool {
		if m.Sequence > last || ctx.Err() != nil {
			return false
		}
		if !counts(m) {
			return true
		}
		slots <- struct{}{}
		work.Go(func() {
			defer func() { <-slots }()
			err := cancel(ctx, m)
			c.mu.Lock()
			defer c.mu.Unlock()
			switch {
			case err == nil:
				done.Cancelled++
			case errors.Is(err, ErrFinal):
				done.Ended++
			case errors.Is(err, ErrBusy), errors.Is(err, ErrDue):
				left.members, left.reason = left.members+1, cmp.Or(left.reason, err)
			default:
				stop(err)
			}
		})
		return true
	})
	work.Wait()
	switch cause := context.Cause(ctx); {
	case cause != nil: // also of an error of the scan
		return cause
	case err != nil:
		return c.conn.Explain("look for the members of the set", err)
	default:
		return nil
	}
}
