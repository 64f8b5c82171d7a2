package operate

import (
	"context"
	"time"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// Backlog is what waits in the job stream.
type Backlog struct {
	// Stored jobs of all pools; without those that are delayed.
	Stored uint64
	// Pending jobs of this pool wait to be delivered for the first time.
	Pending uint64
	// Unsettled jobs of this pool are out with replicas or wait for their next attempt.
	Unsettled int
	// Delayed jobs of all pools wait in LATER; -1 = not known.
	Delayed int64
}

// Backlog reads what waits. The error wraps [bus.ErrMissing] if stream or consumer is missing.
func (a *Admin) Backlog(ctx context.Context) (Backlog, error) {
	stream, err := a.conn.Stream(ctx, a.streams.Stream)
	if err != nil {
		return Backlog{}, err
	}
	info, err := a.conn.Consumer(ctx, a.streams.Stream, a.pool)
	if err != nil {
		return Backlog{}, err
	}
	var later jobs.PoolState
	a.readLater(ctx, &later)
	return Backlog{
		Stored: stream.CachedInfo().State.Msgs, Pending: info.NumPending, Unsettled: info.NumAckPending, Delayed: later.Delayed,
	}, nil
}

// ClockOffset returns how far this machine's clock is ahead of the server's, and how far off
// that may be: half of the time the reply took. The error wraps [bus.ErrMissing] if there is no
// job stream to ask about.
func (a *Admin) ClockOffset(ctx context.Context) (offset, within time.Duration, err error) {
	asked := time.Now()
	stream, err := a.conn.Stream(ctx, a.streams.Stream)
	if err != nil {
		return 0, 0, err
	}
	within = time.Since(asked) / 2
	return asked.Add(within).Sub(stream.CachedInfo().TimeStamp), within, nil
}

// Known reports whether anything is known of the pool: a consumer, a replica, or an event.
func (a *Admin) Known(ctx context.Context) (bool, error) {
	if _, err := a.conn.Consumer(ctx, a.streams.Stream, a.pool); err == nil {
		return true, nil
	}
	if replicas, err := a.Digests(ctx); err != nil || len(replicas) > 0 {
		return len(replicas) > 0, err
	}
	stream, err := a.conn.Stream(ctx, a.conn.Done())
	if err != nil {
		return false, nil //nolint:nilerr // no stream holds no event
	}
	_, err = a.conn.LastMsg(ctx, stream, bus.EventsFilter(a.pool))
	return err == nil, nil
}
