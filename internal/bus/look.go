package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Backlog tells what waits in the job stream.
type Backlog struct {
	// Stored jobs of all pools, those delayed until later included.
	Stored uint64
	// Pending jobs of this pool wait to be delivered for the first time.
	Pending uint64
	// Unsettled jobs of this pool are out with replicas or wait for their next attempt.
	Unsettled int
}

// Backlog reads what waits. The error wraps [ErrMissing] if stream or consumer is missing.
func (s *Setup) Backlog(ctx context.Context) (Backlog, error) {
	stream, err := s.jobStream(ctx)
	if err != nil {
		return Backlog{}, err
	}
	consumer, err := stream.Consumer(ctx, s.pool)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return Backlog{}, fmt.Errorf("consumer %s/%s: %w: 'worker setup' creates it", s.streams.Stream, s.pool, ErrMissing)
	}
	if err != nil {
		return Backlog{}, explain("look up consumer "+s.pool, err)
	}
	info := consumer.CachedInfo()
	return Backlog{
		Stored: stream.CachedInfo().State.Msgs, Pending: info.NumPending, Unsettled: info.NumAckPending,
	}, nil
}

// ClockOffset returns how far this machine's clock is ahead of the server's, and how far off
// that may be: half of the time the answer took. The error wraps [ErrMissing] if there is no
// job stream to ask about.
func (s *Setup) ClockOffset(ctx context.Context) (offset, within time.Duration, err error) {
	asked := time.Now()
	stream, err := s.jobStream(ctx)
	if err != nil {
		return 0, 0, err
	}
	within = time.Since(asked) / 2
	return asked.Add(within).Sub(stream.CachedInfo().TimeStamp), within, nil
}

func (s *Setup) jobStream(ctx context.Context) (jetstream.Stream, error) {
	stream, err := s.conn.js.Stream(ctx, s.streams.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, fmt.Errorf("stream %s: %w: 'worker setup' creates it", s.streams.Stream, ErrMissing)
	}
	if err != nil {
		return nil, explain("look up stream "+s.streams.Stream, err)
	}
	return stream, nil
}
