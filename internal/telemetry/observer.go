package telemetry

import (
	"context"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"rollcall/internal/jobs"
)

// LogObserver writes what the pool reports to the log: a line per batch at debug level,
// above it only what a person should look into. Never a payload, never a line per job.
type LogObserver struct {
	log    zerolog.Logger
	deaths *deaths
}

// NewLogObserver returns an observer that writes to log. The caller owes a call of Close.
func NewLogObserver(log zerolog.Logger) *LogObserver {
	return &LogObserver{log: log, deaths: &deaths{log: log}}
}

// Close writes what was held back so as not to fill the log. Nothing is written from then on
// but what is reported after it.
func (o *LogObserver) Close() { o.deaths.close() }

// Batch begins the life of a batch; the returned function ends it.
func (o *LogObserver) Batch(ctx context.Context, b *jobs.Batch) (context.Context, func(jobs.BatchEnd)) {
	return ctx, func(end jobs.BatchEnd) {
		line := traced(ctx, o.log.Debug()).Str("batch_id", b.ID)
		switch end.Result {
		case jobs.BatchCommitted:
		case jobs.BatchSuperseded:
			line.Int("jobs", len(b.Jobs)).Msg("batch dropped, other replicas had finished its jobs")
			return
		case jobs.BatchWaiting:
			line.Int("jobs", len(b.Jobs)).Msg("services hold the batch back, its jobs wait")
			return
		default:
			line.Int("jobs", len(b.Jobs)).Msg("batch not committed, its jobs go back")
			return
		}
		s := end.Settlement
		counts := jobs.Count(s.Rulings)
		o.deaths.note(s, counts)
		line.
			Str("seal", string(b.Seal)).
			Str("outcome", string(s.Outcome)).
			Int("jobs", counts.Total).
			Int("succeeded", counts.Succeeded).
			Int("failed", counts.Dead()).
			Int("retrying", counts.Retrying).
			Dur("duration_ms", s.Took).
			Msg("batch settled")
	}
}

// Call begins a call; the returned function ends it. Only failed calls are written.
func (o *LogObserver) Call(ctx context.Context, c *jobs.Call) (context.Context, func(*jobs.CallResult)) {
	return ctx, func(r *jobs.CallResult) {
		if r == nil || r.Failure == nil {
			return
		}
		traced(ctx, o.log.Debug()).
			Str("batch_id", c.BatchID).
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

// traced adds the ids of the span in ctx, if there is one, so that a line and a trace find
// each other. It does nothing for a line that is not written.
func traced(ctx context.Context, line *zerolog.Event) *zerolog.Event {
	span := trace.SpanContextFromContext(ctx)
	if line == nil || !span.IsValid() {
		return line
	}
	return line.Stringer("trace_id", span.TraceID()).Stringer("span_id", span.SpanID())
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
		o.log.Debug().Int("count", n).Msg("suspect jobs are called for in a group of their own")
	default:
	}
}
