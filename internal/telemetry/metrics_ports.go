package telemetry

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"rollcall/internal/jobs"
)

// Settler takes settlements of deliveries; it is the pool's own interface of that name.
type Settler interface {
	Ack(d *jobs.Delivery) error
	Nak(d *jobs.Delivery, delay time.Duration) error
	Extend(d *jobs.Delivery) error
}

// Ledger commits settlements; it is the pool's own interface of that name.
type Ledger interface {
	Load(ctx context.Context, refs []jobs.Ref) ([]jobs.Record, error)
	Commit(ctx context.Context, s *jobs.Settlement) error
	Mark(ctx context.Context, marks []jobs.Mark) error
}

// The kinds of settlements, in the words of NATS.
const (
	kindAck      = "ack"
	kindNak      = "nak"
	kindProgress = "progress"
)

// settlements counts one kind: those that were sent, and those that could not be.
type settlements struct{ sent, failed prometheus.Counter }

func (s settlements) note(err error) error {
	if err != nil {
		s.failed.Inc()
		return err
	}
	s.sent.Inc()
	return nil
}

// Settler returns inner with its settlements counted.
func (m *Metrics) Settler(inner Settler) Settler {
	return &countedSettler{inner: inner, ack: m.acks[kindAck], nak: m.acks[kindNak], progress: m.acks[kindProgress]}
}

type countedSettler struct {
	inner              Settler
	ack, nak, progress settlements
}

// Ack counts and passes on.
func (s *countedSettler) Ack(d *jobs.Delivery) error { return s.ack.note(s.inner.Ack(d)) }

// Nak counts and passes on.
func (s *countedSettler) Nak(d *jobs.Delivery, delay time.Duration) error {
	return s.nak.note(s.inner.Nak(d, delay))
}

// Extend counts and passes on.
func (s *countedSettler) Extend(d *jobs.Delivery) error { return s.progress.note(s.inner.Extend(d)) }

// Ledger returns inner with its commits timed, and each in a span of tracer.
func (m *Metrics) Ledger(inner Ledger, tracer trace.Tracer) Ledger {
	return &timedLedger{Ledger: inner, m: m, tracer: tracer}
}

type timedLedger struct {
	Ledger
	m      *Metrics
	tracer trace.Tracer
}

// Commit times the commit and passes on what came of it. A conflict is no error of the span:
// somebody else did the work.
func (l *timedLedger) Commit(ctx context.Context, s *jobs.Settlement) error {
	ctx, span := l.tracer.Start(ctx, "publish done", trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		attribute.String("messaging.system", "nats"),
		attribute.String("messaging.operation.name", "publish"),
		attribute.String("messaging.operation.type", "send"),
		attribute.String("messaging.destination.name", "done"),
		attribute.Int("messaging.message.body.size", len(s.Event)),
		attribute.String("rollcall.batch.id", s.Batch.ID),
	))
	defer span.End()
	begun := time.Now()
	err := l.Ledger.Commit(ctx, s)
	l.m.batchCommit.Observe(time.Since(begun).Seconds())
	var conflict *jobs.ConflictError
	switch {
	case errors.As(err, &conflict):
		span.AddEvent("conflict")
	case err != nil:
		span.SetStatus(codes.Error, err.Error())
	}
	return err
}
