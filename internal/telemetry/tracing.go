package telemetry

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"rollcall/internal/telemetry/otlp"
)

// scope names the instrumentation in spans.
const scope = "rollcall"

// Tracing makes spans. Its zero value makes none.
type Tracing struct {
	provider *sdktrace.TracerProvider
	exporter *loggingExporter
}

// TracingWanted reports whether the OTEL_* variables in environ, entries of the form
// NAME=value, ask for traces: an exporter other than none is named, or an endpoint is.
func TracingWanted(environ []string) bool {
	wanted := false
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		switch {
		case value == "":
		case name == "OTEL_SDK_DISABLED" && strings.EqualFold(value, "true"):
			return false
		case name == "OTEL_TRACES_EXPORTER" && value == "none":
			return false
		case name == "OTEL_TRACES_EXPORTER", name == "OTEL_EXPORTER_OTLP_ENDPOINT", name == "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT":
			wanted = true
		}
	}
	return wanted
}

// Origin identifies the process in its spans. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, where
// set, take precedence.
type Origin struct{ Pool, Replica, Version string }

// StartTracing begins to export spans as the OTEL_* variables of the process say. The caller
// owes a call of [Tracing.Shutdown].
func StartTracing(ctx context.Context, origin Origin, log zerolog.Logger) (*Tracing, error) {
	exporter, err := newExporter(ctx)
	if err != nil {
		return nil, fmt.Errorf("start the export of traces, see OTEL_TRACES_EXPORTER and OTEL_EXPORTER_OTLP_*: %w", err)
	}
	return NewTracing(ctx, exporter, origin, log)
}

// newExporter makes the exporter that OTEL_TRACES_EXPORTER names.
func newExporter(ctx context.Context) (sdktrace.SpanExporter, error) {
	switch name := cmp.Or(os.Getenv("OTEL_TRACES_EXPORTER"), "otlp"); name {
	case "otlp":
		client, err := otlp.NewClient(os.Getenv)
		if err != nil {
			return nil, err
		}
		return otlptrace.New(ctx, client)
	case "console":
		return stdouttrace.New()
	default:
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER is %q; want otlp, console or none", name)
	}
}

// NewTracing exports spans to exporter, in batches. The sampler is that of
// OTEL_TRACES_SAMPLER, else everything whose parent is sampled or that has none.
func NewTracing(ctx context.Context, exporter sdktrace.SpanExporter, origin Origin, log zerolog.Logger) (*Tracing, error) {
	described, err := resource.New(ctx,
		resource.WithAttributes(
			attribute.String("service.name", "rollcall"),
			attribute.String("service.namespace", origin.Pool),
			attribute.String("service.instance.id", origin.Replica),
			attribute.String("service.version", origin.Version),
		),
		resource.WithTelemetrySDK(), resource.WithFromEnv(),
	)
	if err != nil {
		return nil, fmt.Errorf("describe this process for traces, see OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	logging := &loggingExporter{SpanExporter: exporter, log: log}
	return &Tracing{
		provider: sdktrace.NewTracerProvider(sdktrace.WithBatcher(logging), sdktrace.WithResource(described)), exporter: logging,
	}, nil
}

// Enabled reports whether spans are made.
func (t *Tracing) Enabled() bool { return t != nil && t.provider != nil }

// Tracer makes the spans.
func (t *Tracing) Tracer() trace.Tracer {
	if !t.Enabled() {
		return noop.NewTracerProvider().Tracer(scope)
	}
	return t.provider.Tracer(scope)
}

// Shutdown exports the remaining spans, within ctx, and ends the export.
func (t *Tracing) Shutdown(ctx context.Context) error {
	if !t.Enabled() {
		return nil
	}
	err := t.provider.Shutdown(ctx)
	t.exporter.close()
	if err != nil {
		_ = t.exporter.Shutdown(ctx) // it ends what the provider did not wait for
		return fmt.Errorf("export the last traces: %w", err)
	}
	return nil
}

// loggingExporter writes the first of a row of failures to the log. The SDK would hand each
// to a global handler that writes lines of its own to stderr.
type loggingExporter struct {
	sdktrace.SpanExporter
	log zerolog.Logger

	mu     sync.Mutex
	failed bool
	// closed means that nothing is logged any more.
	closed bool
}

// ExportSpans exports and never fails: a lost span is no reason to disturb the work.
func (e *loggingExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	e.mu.Lock()
	defer e.mu.Unlock()
	switch was := e.failed; {
	case e.closed:
	case err != nil && !was:
		e.log.Warn().Err(err).Int("spans", len(spans)).Msg("traces cannot be exported and are dropped; see OTEL_EXPORTER_OTLP_ENDPOINT")
	case err == nil && was:
		e.log.Info().Msg("traces are exported again")
	}
	e.failed = err != nil
	return nil
}

// close ends what is written to the log.
func (e *loggingExporter) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
}
