package operate

import (
	"context"
	"errors"
	"time"

	"rollcall/internal/bus"
)

// Clock is the broker's clock. Times relative to now use it: pauses and schedules are kept by the
// broker, and deadlines by workers that correct their clocks to it. The wall clock of this machine
// is used only by those who may not ask, see [Admin.Clock].
type Clock struct {
	broker time.Time
	// asked is when the broker said so; only distances from it are used, which are monotonic.
	asked time.Time
}

// NewClock returns a clock that shows broker now.
func NewClock(broker time.Time) Clock { return Clock{broker: broker, asked: time.Now()} }

// Now is the broker's time.
func (c Clock) Now() time.Time { return c.broker.Add(time.Since(c.asked)) }

// Clock asks the broker for its time. In core mode there may be no stream to ask about: then it
// is this machine's, as it is for users who may not look at the stream. The error wraps [bus.ErrMissing] if there is no job stream.
func (a *Admin) Clock(ctx context.Context) (Clock, error) {
	if a.streams.Source == bus.SourceCore {
		return NewClock(time.Now()), nil
	}
	stream, err := a.conn.Stream(ctx, a.streams.Stream)
	if errors.Is(err, bus.ErrDenied) {
		return NewClock(time.Now()), nil
	}
	if err != nil {
		return Clock{}, err
	}
	at := stream.CachedInfo().TimeStamp
	if at.IsZero() { // no server that Rollcall works with leaves it out
		at = time.Now()
	}
	return NewClock(at), nil
}

// Now is the broker's time, by the stream of dead letters where the pool has no job stream.
func (a *Admin) Now(ctx context.Context) (time.Time, error) {
	name := a.streams.Stream
	if a.streams.Source == bus.SourceCore {
		name = bus.StreamDead
	}
	stream, err := a.conn.Stream(ctx, name)
	if err != nil {
		return time.Time{}, err
	}
	return stream.CachedInfo().TimeStamp, nil
}
