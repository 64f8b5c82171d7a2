package app

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"

	"rollcall/internal/jobs"
	"rollcall/internal/pool"
	"rollcall/internal/telemetry"
)

// measuredSettler counts what is answered to the broker.
type measuredSettler struct {
	pool.Settler
	metrics *telemetry.Metrics
}

// Ack counts and passes on.
func (s measuredSettler) Ack(done ...*jobs.Delivery) error {
	return s.metrics.Ack(telemetry.Acked, len(done), s.Settler.Ack(done...))
}

// Nak counts and passes on.
func (s measuredSettler) Nak(d *jobs.Delivery, delay time.Duration) error {
	return s.metrics.Ack(telemetry.Nacked, 1, s.Settler.Nak(d, delay))
}

// Extend counts and passes on.
func (s measuredSettler) Extend(d *jobs.Delivery) error {
	return s.metrics.Ack(telemetry.InProgress, 1, s.Settler.Extend(d))
}

// measuredLedger times commits, each in a span.
type measuredLedger struct {
	pool.Ledger
	metrics *telemetry.Metrics
	tracer  trace.Tracer
}

// Commit times and passes on.
func (l measuredLedger) Commit(ctx context.Context, s *jobs.Settlement) error {
	return l.metrics.Commit(ctx, l.tracer, s, l.Ledger.Commit)
}
