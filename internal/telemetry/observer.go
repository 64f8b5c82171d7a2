package telemetry

import (
	"context"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
)

// LogObserver writes what the pool reports to the log: a line per batch at debug level,
// above it only what a person should look into. Never a payload, never a line per job.
type LogObserver struct {
	log zerolog.Logger
}

// NewLogObserver returns an observer that writes to log.
func NewLogObserver(log zerolog.Logger) *LogObserver { return &LogObserver{log: log} }

// Batch begins the life of a batch; the returned function ends it.
func (o *LogObserver) Batch(ctx context.Context, b *jobs.Batch) (context.Context, func(*jobs.Settlement)) {
	return ctx, func(s *jobs.Settlement) {
		if s == nil {
			o.log.Debug().Str("batch", b.ID).Int("jobs", len(b.Jobs)).Msg("batch not committed, its jobs go back")
			return
		}
		counts := jobs.Count(s.Rulings)
		o.log.Debug().
			Str("batch", b.ID).
			Str("seal", string(b.Seal)).
			Str("outcome", string(s.Outcome)).
			Int("jobs", counts.Total).
			Int("succeeded", counts.Succeeded).
			Int("failed", counts.Failed+counts.Expired+counts.Invalid).
			Int("retrying", counts.Retrying).
			Dur("duration_ms", s.SettledAt.Sub(b.SealedAt)).
			Msg("batch settled")
	}
}

// Call begins a call; the returned function ends it. Only failed calls are written.
func (o *LogObserver) Call(ctx context.Context, c *jobs.Call) (context.Context, func(*jobs.CallResult)) {
	return ctx, func(r *jobs.CallResult) {
		if r == nil || r.Failure == nil {
			return
		}
		o.log.Debug().
			Str("batch", c.BatchID).
			Str("service", c.Service).
			Str("reason", r.Failure.Reason).
			Int("code", r.Failure.Code).
			Bool("final", r.Failure.Final).
			Int("tries", r.Tries).
			Dur("duration_ms", r.Duration).
			AnErr("error", r.Failure.Err).
			Msg("call failed")
	}
}

// Event counts n occurrences. Those that a person should look into are warnings; the rest
// is for metrics.
func (o *LogObserver) Event(e jobs.Occurrence, n int) {
	if n == 0 {
		return
	}
	switch e {
	case jobs.Panics:
		o.log.Error().Int("count", n).Msg("recovered a panic in a call")
	case jobs.LeaseLost:
		o.log.Warn().Int("count", n).Msg("leases lost, the broker will deliver these jobs again")
	case jobs.CrashLoops:
		o.log.Warn().Int("count", n).Msg("jobs failed because they seem to crash their workers")
	case jobs.HandedBack:
		o.log.Info().Int("count", n).Msg("unstarted jobs handed back")
	case jobs.LoneRuns:
		o.log.Info().Int("count", n).Msg("suspect job runs alone")
	default:
	}
}
