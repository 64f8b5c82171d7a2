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

// Ack names what a replica answers the broker about a delivery, in the words of NATS.
type Ack string

// The kinds of acks: the job is done, it is given back, it is still in work.
const (
	Acked      Ack = "ack"
	Nacked     Ack = "nak"
	InProgress Ack = "progress"
)

// acks counts one kind: those that were sent, and those that could not be.
type acks struct{ sent, failed prometheus.Counter }

// Ack counts n acks by whether they could be sent, and returns err.
func (m *Metrics) Ack(kind Ack, n int, err error) error {
	counters := m.acks[kind]
	if err != nil {
		counters.failed.Add(float64(n))
		return err
	}
	counters.sent.Add(float64(n))
	return nil
}

// Commit times a commit, in a span of tracer where its batch has one, and returns its error. A
// conflict is no error of the span: another replica did the work.
func (m *Metrics) Commit(ctx context.Context, tracer trace.Tracer, s *jobs.Settlement, commit func(context.Context, *jobs.Settlement) error) error {
	span := trace.SpanFromContext(ctx)
	if span.IsRecording() {
		ctx, span = tracer.Start(ctx, "publish done", trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
			attribute.String("messaging.system", "nats"),
			attribute.String("messaging.operation.name", "publish"),
			attribute.String("messaging.operation.type", "send"),
			attribute.String("messaging.destination.name", "done"),
			attribute.Int("messaging.message.body.size", len(s.Event)),
			attribute.String("rollcall.batch.id", s.Batch.ID),
		))
		defer span.End()
	}
	begun := time.Now()
	err := commit(ctx, s)
	m.batchCommit.Observe(time.Since(begun).Seconds())
	var conflict *jobs.ConflictError
	switch {
	case errors.As(err, &conflict):
		span.AddEvent("conflict")
	case err != nil:
		span.SetStatus(codes.Error, err.Error())
	}
	return err
}
