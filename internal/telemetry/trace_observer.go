package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"rollcall/internal/jobs"
)

// maxLinks bounds the jobs a batch's span links to: the default of OTEL_SPAN_LINK_COUNT_LIMIT.
const maxLinks = 128

// TraceObserver makes a span for every batch and every call, by the messaging conventions of
// OpenTelemetry. A batch has many causes and a span one parent, so the batch's span begins a
// trace of its own and links to the jobs' contexts.
type TraceObserver struct {
	tracer trace.Tracer
	format propagation.TraceContext
}

// NewTraceObserver returns an observer that makes spans with tracer.
func NewTraceObserver(tracer trace.Tracer) *TraceObserver { return &TraceObserver{tracer: tracer} }

// Batch begins the span of a batch and writes its context to b.Traceparent; the returned
// function ends it.
func (o *TraceObserver) Batch(ctx context.Context, b *jobs.Batch) (context.Context, func(jobs.BatchEnd)) {
	ctx, span := o.tracer.Start(ctx, "process jobs",
		trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(b.SealedAt),
		trace.WithLinks(o.links(b.Jobs)...), trace.WithAttributes(
			attribute.String("messaging.system", "nats"),
			attribute.String("messaging.operation.name", "process"),
			attribute.String("messaging.operation.type", "process"),
			attribute.String("messaging.destination.name", "jobs"),
			attribute.String("messaging.consumer.group.name", b.Pool),
			attribute.Int("messaging.batch.message_count", len(b.Jobs)),
			attribute.String("rollcall.batch.id", b.ID),
			attribute.String("rollcall.batch.seal", string(b.Seal)),
		))
	b.Traceparent = o.traceparent(ctx)
	return ctx, func(end jobs.BatchEnd) {
		defer span.End()
		span.SetAttributes(attribute.String("rollcall.batch.result", string(end.Result)))
		if end.Result == jobs.BatchAborted {
			span.SetStatus(codes.Error, "not committed")
		}
		s := end.Settlement
		if s == nil {
			return
		}
		counts := jobs.Count(s.Rulings)
		span.SetAttributes(
			attribute.String("rollcall.batch.outcome", string(s.Outcome)),
			attribute.Int("rollcall.jobs.succeeded", counts.Succeeded),
			attribute.Int("rollcall.jobs.failed", counts.Dead()),
			attribute.Int("rollcall.jobs.retrying", counts.Retrying),
		)
	}
}

// Call begins the span of a call and writes its context to c.Traceparent, for the service to
// go on from; the returned function ends it.
func (o *TraceObserver) Call(ctx context.Context, c *jobs.Call) (context.Context, func(*jobs.CallResult)) {
	ctx, span := o.tracer.Start(ctx, "call "+c.Service, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("rollcall.service", c.Service),
		attribute.String("rollcall.batch.id", c.BatchID),
		attribute.Int("messaging.batch.message_count", len(c.Jobs)),
	))
	if parent := o.traceparent(ctx); parent != "" {
		c.Traceparent = parent
	}
	return ctx, func(r *jobs.CallResult) {
		defer span.End()
		span.SetAttributes(attribute.Int("http.request.resend_count", r.Repeats))
		if r.Failure == nil {
			return
		}
		span.SetAttributes(attribute.String("error.type", r.Failure.Reason))
		if r.Failure.Code != 0 {
			span.SetAttributes(attribute.Int("http.response.status_code", r.Failure.Code))
		}
		span.SetStatus(codes.Error, r.Failure.Error())
	}
}

// Event makes no span: an occurrence has no duration.
func (o *TraceObserver) Event(jobs.Occurrence, int) {}

// links returns the contexts of the jobs that carry one, each once.
func (o *TraceObserver) links(members []*jobs.Job) (links []trace.Link) {
	last := ""
	for _, j := range members {
		if j.Traceparent == "" || j.Traceparent == last || len(links) == maxLinks {
			continue
		}
		last = j.Traceparent
		carrier := propagation.MapCarrier{jobs.HeaderTraceparent: j.Traceparent}
		sc := trace.SpanContextFromContext(o.format.Extract(context.Background(), carrier))
		if sc.IsValid() {
			links = append(links, trace.Link{SpanContext: sc, Attributes: []attribute.KeyValue{
				attribute.String("messaging.message.id", j.UID),
			}})
		}
	}
	return links
}

// traceparent returns the context of the span in ctx as W3C writes it, empty for none.
func (o *TraceObserver) traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	o.format.Inject(ctx, carrier)
	return carrier[jobs.HeaderTraceparent]
}
