package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"rollcall/internal/retry"
)

const (
	// dueInterval is the time between two sweeps of LATER.
	dueInterval = 5 * time.Second
	// dueTimeout bounds one sweep.
	dueTimeout = 5 * time.Second
	// strangerAge is how long a recreated LATER is left alone: by then the job stream knows that
	// it sources another stream (stream.go, sourceHealthCheckInterval: 10 s).
	strangerAge = time.Minute
)

// DueSweeper removes delayed jobs from LATER that have entered the job stream: LATER itself
// keeps everything. Any one replica suffices, and sweeping twice is harmless.
type DueSweeper struct {
	conn  *Conn
	setup *Setup
	log   zerolog.Logger
	// swept is the sequence in LATER up to which jobs were removed.
	swept uint64
}

// NewDueSweeper returns the sweeper for the job stream of setup.
func NewDueSweeper(conn *Conn, setup *Setup, log zerolog.Logger) *DueSweeper {
	return &DueSweeper{conn: conn, setup: setup, log: log}
}

// Run sweeps until ctx is done, then returns nil. A sweep that fails is made up for by the
// next; the first in a row is logged.
func (s *DueSweeper) Run(ctx context.Context) error {
	failing := false
	for retry.Wait(ctx, retry.Jitter(dueInterval)) == nil {
		_, err := s.Sweep(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			s.log.Warn().Err(err).Msg("delayed jobs that are in the job stream could not be removed from LATER")
		}
		failing = err != nil
	}
	return nil
}

// Sweep removes what has entered the job stream and returns how many messages went.
func (s *DueSweeper) Sweep(ctx context.Context) (purged uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, dueTimeout)
	defer cancel()
	later, err := s.conn.Stream(ctx, StreamLater)
	if errors.Is(err, ErrMissing) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	entered, _, err := s.conn.Entered(ctx, s.setup.streams.Stream, later.CachedInfo())
	if err != nil || entered == 0 || entered == s.swept {
		return 0, err
	}
	if purged, err = s.conn.sweepDue(ctx, entered); err == nil {
		s.swept = entered
	}
	return purged, err
}

// sweepDue removes what was due from LATER, up to a sequence that has entered the job stream. The
// error wraps [ErrDenied] if the user has no right to.
func (c *Conn) sweepDue(ctx context.Context, entered uint64) (purged uint64, err error) {
	ctx, stop := c.Heed(ctx, "STREAM.PURGE."+StreamLater)
	defer stop()
	purged, err = c.purge(ctx, StreamLater, purgeRequest{Filter: SubjectsDue, Before: entered + 1})
	if err != nil {
		return 0, fmt.Errorf("sweep %s: %w", StreamLater, Refused(ctx, err))
	}
	return purged, nil
}

// Entered returns the sequence in LATER up to which everything due is stored in a job stream; known is false where the
// server does not say.
func (c *Conn) Entered(ctx context.Context, jobStream string, later *jetstream.StreamInfo) (seq uint64, known bool, err error) {
	stream, err := c.Stream(ctx, jobStream)
	if err != nil {
		return 0, false, err
	}
	seq, known = entered(stream.CachedInfo(), later)
	return seq, known, nil
}

// entered returns the sequence in LATER up to which everything due is stored in a job stream that sources it;
// known is false where the server does not say. It reports what it has stored, not what it has seen
// (stream.go, sourcesInfo), and nothing while the stream has no leader.
func entered(jobStream, later *jetstream.StreamInfo) (seq uint64, known bool) {
	// A sequence of the stream that was there before must not be taken for one of this.
	if later.Created.After(jobStream.Created) && later.TimeStamp.Sub(later.Created) < strangerAge {
		return 0, false
	}
	for _, source := range jobStream.Sources {
		if source.Name == StreamLater && source.Error == nil {
			return source.Seq, source.Seq > 0 || source.Active >= 0
		}
	}
	return 0, false
}
