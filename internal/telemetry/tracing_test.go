package telemetry_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"rollcall/internal/jobs"
	"rollcall/internal/pool"
	"rollcall/internal/telemetry"
)

func TestTracingIsOffUnlessAsked(t *testing.T) {
	t.Parallel()
	for env, want := range map[string]bool{
		"":                                         false,
		"OTEL_SERVICE_NAME=x":                      false,
		"OTEL_TRACES_EXPORTER=none":                false,
		"OTEL_TRACES_EXPORTER=":                    false,
		"OTEL_TRACES_EXPORTER=otlp":                true,
		"OTEL_TRACES_EXPORTER=console":             true,
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://x":     true,
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http:": true,
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://x OTEL_SDK_DISABLED=true":    false,
		"OTEL_TRACES_EXPORTER=none OTEL_EXPORTER_OTLP_ENDPOINT=http://x": false,
	} {
		if got := telemetry.TracingWanted(strings.Fields(env)); got != want {
			t.Errorf("%q: tracing %v, want %v", env, got, want)
		}
	}
	var off *telemetry.Tracing
	if off.Enabled() || off.Tracer() == nil || off.Shutdown(t.Context()) != nil {
		t.Error("no tracing must be as good as a tracing that does nothing")
	}
}

// tracing returns one that exports to exporter, and a function that ends it.
func tracing(t *testing.T, exporter sdktrace.SpanExporter, log zerolog.Logger) (*telemetry.Tracing, func()) {
	t.Helper()
	tr, err := telemetry.NewTracing(t.Context(), exporter, telemetry.Origin{Pool: "mail", Replica: "r1", Version: "v1"}, log)
	if err != nil {
		t.Fatal(err)
	}
	return tr, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := tr.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	}
}

// keeper keeps what was exported beyond the shutdown.
type keeper struct {
	mu    sync.Mutex
	spans tracetest.SpanStubs
}

func (k *keeper) ExportSpans(_ context.Context, s []sdktrace.ReadOnlySpan) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.spans = append(k.spans, tracetest.SpanStubsFromReadOnlySpans(s)...)
	return nil
}
func (k *keeper) Shutdown(context.Context) error { return nil }

func (k *keeper) named(t *testing.T, name string) tracetest.SpanStub {
	t.Helper()
	for _, s := range k.spans {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no span %q among %d", name, len(k.spans))
	return tracetest.SpanStub{}
}

func attribute(s *tracetest.SpanStub, key string) string {
	for _, a := range s.Attributes {
		if string(a.Key) == key {
			return a.Value.String()
		}
	}
	return ""
}

// committer commits with the same end every time.
type committer struct {
	err  error
	seen trace.SpanContext
}

func (c *committer) Commit(ctx context.Context, _ *jobs.Settlement) error {
	c.seen = trace.SpanContextFromContext(ctx)
	return c.err
}

const producer = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// lifeOfABatch is a call to each of two services, one of which fails, and the commit.
func lifeOfABatch(t *testing.T, tr *telemetry.Tracing, ledger *committer) (s *jobs.Settlement, sent []string) {
	t.Helper()
	s = settled("b1", jobs.Succeeded, jobs.Retrying, jobs.Failed)
	s.Batch.Jobs[0].Traceparent = producer
	s.Batch.Jobs[1].Traceparent = "not one"
	s.Batch.Jobs[2].Traceparent = strings.Replace(producer, "b7ad", "c7ad", 1)
	o := telemetry.NewTraceObserver(tr.Tracer())
	ctx, end := o.Batch(t.Context(), s.Batch)
	for _, r := range []*jobs.CallResult{
		{Tries: 1}, {Tries: 3, Repeats: 2, Failure: &jobs.Failure{Reason: jobs.ReasonHTTP5xx, Code: 503, Err: errors.New("unavailable")}},
	} {
		c := &jobs.Call{BatchID: "b1", Service: "billing", Jobs: s.Batch.Jobs, Traceparent: s.Batch.Traceparent}
		_, done := o.Call(ctx, c)
		done(r)
		sent = append(sent, c.Traceparent)
	}
	_ = newMetrics().Commit(ctx, tr.Tracer(), s, ledger.Commit)
	end(jobs.BatchEnd{Result: jobs.BatchCommitted, Settlement: s})
	return s, sent
}

func TestSpansOfABatch(t *testing.T) {
	t.Parallel()
	kept := &keeper{}
	tr, stop := tracing(t, kept, zerolog.Nop())
	ledger := &committer{}
	s, sent := lifeOfABatch(t, tr, ledger)
	stop()

	batch := kept.named(t, "process jobs")
	if batch.SpanKind != trace.SpanKindConsumer || batch.Parent.IsValid() || len(batch.Links) != 2 {
		t.Errorf("batch span: kind %v, parent %v, %d links; want a consumer that begins a trace with a link for each of 2 jobs", batch.SpanKind, batch.Parent, len(batch.Links))
	}
	if got := batch.Links[0].SpanContext; got.TraceID().String() != producer[3:35] || got.SpanID().String() != producer[36:52] {
		t.Errorf("the first link is to %v", got)
	}
	id := batch.SpanContext.TraceID().String()
	if want := "00-" + id + "-" + batch.SpanContext.SpanID().String() + "-01"; s.Batch.Traceparent != want {
		t.Errorf("the batch says traceparent %q, want %q", s.Batch.Traceparent, want)
	}
	for key, want := range map[string]string{
		"messaging.system": "nats", "messaging.batch.message_count": "3", "messaging.consumer.group.name": "mail",
		"rollcall.batch.id": "b1", "rollcall.batch.outcome": "partial",
	} {
		if got := attribute(&batch, key); got != want {
			t.Errorf("batch span: %s is %q, want %q", key, got, want)
		}
	}
	commit := kept.named(t, "publish done")
	if commit.Parent.SpanID() != batch.SpanContext.SpanID() || commit.SpanKind != trace.SpanKindProducer || !ledger.seen.Equal(commit.SpanContext) {
		t.Errorf("commit span: parent %v, kind %v", commit.Parent, commit.SpanKind)
	}
	calls := 0
	for _, span := range kept.spans {
		if span.Name != "call billing" {
			continue
		}
		if span.SpanKind != trace.SpanKindClient || span.Parent.SpanID() != batch.SpanContext.SpanID() {
			t.Errorf("call span: kind %v, parent %v", span.SpanKind, span.Parent)
		}
		if want := "00-" + id + "-" + span.SpanContext.SpanID().String() + "-01"; sent[calls] != want {
			t.Errorf("call %d carried %q, want that of its own span, %q", calls, sent[calls], want)
		}
		calls++
		if calls == 2 && (span.Status.Code != codes.Error || attribute(&span, "error.type") != "http_5xx" || attribute(&span, "http.response.status_code") != "503") {
			t.Errorf("failed call: %+v", span)
		}
	}
	if calls != 2 || len(kept.spans) != 4 {
		t.Errorf("%d spans, %d of calls; want 4 and 2", len(kept.spans), calls)
	}
}

func TestACommitThatLostIsNoErrorOfTheTrace(t *testing.T) {
	t.Parallel()
	kept := &keeper{}
	tr, stop := tracing(t, kept, zerolog.Nop())
	lifeOfABatch(t, tr, &committer{err: &jobs.ConflictError{Final: []bool{true}}})
	lifeOfABatch(t, tr, &committer{err: errors.New("no answer")})
	stop()
	var seen []codes.Code
	for _, span := range kept.spans {
		if span.Name == "publish done" {
			seen = append(seen, span.Status.Code)
		}
	}
	if len(seen) != 2 || seen[0] != codes.Unset || seen[1] != codes.Error {
		t.Errorf("statuses %v, want unset for the conflict and error for the failure", seen)
	}
}

func TestLogLinesCarryTheTrace(t *testing.T) {
	t.Parallel()
	kept := &keeper{}
	tr, stop := tracing(t, kept, zerolog.Nop())
	var out bytes.Buffer
	log := telemetry.NewLogger(telemetry.Config{Level: "debug", Format: telemetry.FormatJSON}, &out)
	play(t, pool.Observers{telemetry.NewTraceObserver(tr.Tracer()), telemetry.NewLogObserver(log)}, settled("b1", jobs.Succeeded))
	stop()
	if want := `"trace_id":"` + kept.named(t, "process jobs").SpanContext.TraceID().String() + `"`; !strings.Contains(out.String(), want) {
		t.Errorf("the line %q lacks %s", out.String(), want)
	}
}

// receiver is an OTLP/HTTP endpoint.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*spans.Span
	attrs map[string]string
	down  bool
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{attrs: map[string]string{}}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) serve(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body := io.Reader(request.Body)
	if request.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = unzipped
	}
	raw, err := io.ReadAll(body)
	var export spans.TracesData
	if err == nil {
		err = proto.Unmarshal(raw, &export)
	}
	if err != nil || request.URL.Path != "/v1/traces" || r.down {
		http.Error(w, "no", http.StatusBadRequest)
		return
	}
	for _, resource := range export.GetResourceSpans() {
		for _, a := range resource.GetResource().GetAttributes() {
			r.attrs[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for _, scope := range resource.GetScopeSpans() {
			r.spans = append(r.spans, scope.GetSpans()...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// TestTracesReachACollector is not parallel: the exporter reads the environment of the process.
func TestTracesReachACollector(t *testing.T) {
	r := newReceiver(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", r.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
	tr, err := telemetry.StartTracing(t.Context(), telemetry.Origin{Pool: "mail", Replica: "r1", Version: "v1"}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	s, _ := lifeOfABatch(t, tr, &committer{})
	// The spans wait for a batch of their own to fill; only the shutdown sends them.
	if err := tr.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	names := map[string]int{}
	for _, span := range r.spans {
		names[span.GetName()]++
		if span.GetName() == "process jobs" && len(span.GetLinks()) != 2 {
			t.Errorf("%d links arrived, want 2", len(span.GetLinks()))
		}
	}
	if names["process jobs"] != 1 || names["call billing"] != 2 || names["publish done"] != 1 {
		t.Errorf("arrived: %v", names)
	}
	for key, want := range map[string]string{
		"service.name": "rollcall", "service.namespace": "mail", "service.instance.id": "r1", "deployment.environment.name": "test",
	} {
		if r.attrs[key] != want {
			t.Errorf("resource: %s is %q, want %q", key, r.attrs[key], want)
		}
	}
	if s.Batch.Traceparent == "" {
		t.Error("the batch has no traceparent")
	}
}

func TestAnAbsentCollectorIsToldOnceAndHarmsNothing(t *testing.T) {
	r := newReceiver(t)
	r.down = true
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", r.URL+"/v1/traces")
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
	var out bytes.Buffer
	log := telemetry.NewLogger(telemetry.Config{Level: "info", Format: telemetry.FormatJSON}, &out)
	tr, err := telemetry.StartTracing(t.Context(), telemetry.Origin{}, log)
	if err != nil {
		t.Fatal(err)
	}
	lifeOfABatch(t, tr, &committer{})
	if err := tr.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if got := strings.Count(out.String(), "traces cannot be exported"); got != 1 {
		t.Errorf("logged %d times: %s", got, out.String())
	}
}

func TestShutdownDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	tr, err := telemetry.NewTracing(t.Context(), stuck{release}, telemetry.Origin{}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	lifeOfABatch(t, tr, &committer{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := tr.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
	close(release)
}

// A collector that does not answer holds an export up, not the end of the process: what was not waited for ends
// soon, and says nothing any more. (TestMain finds what is left behind.)
func TestNothingOfAnExportOutlivesItsShutdown(t *testing.T) {
	asked := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	var out lines
	tr, err := telemetry.StartTracing(t.Context(), telemetry.Origin{}, zerolog.New(&out))
	if err != nil {
		t.Fatal(err)
	}
	lifeOfABatch(t, tr, &committer{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	began := time.Now()
	if err := tr.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	server.Close() // waits for the request
	if took := time.Since(began); took > 5*time.Second || out.String() != "" {
		t.Errorf("it took %s, and the log says %q", took, out.String())
	}
}

// stuck is a collector that takes spans and never answers.
type stuck struct{ release chan struct{} }

func (s stuck) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error {
	<-s.release
	return nil
}
func (s stuck) Shutdown(context.Context) error { return nil }

func TestAWrongExporterNamesTheVariable(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	if _, err := telemetry.StartTracing(t.Context(), telemetry.Origin{}, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "http/protobuf") {
		t.Errorf("gRPC: %v, want an error that names the protocol to use", err)
	}
	t.Setenv("OTEL_TRACES_EXPORTER", "pigeon")
	if _, err := telemetry.StartTracing(t.Context(), telemetry.Origin{}, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "OTEL_TRACES_EXPORTER") {
		t.Errorf("got %v", err)
	}
}
