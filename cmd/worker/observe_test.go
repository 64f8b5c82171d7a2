package main

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
	"rollcall/internal/web"
)

// traced are the spans that reached a collector, by name.
type traced struct {
	mu    sync.Mutex
	spans map[string][]*spans.Span
}

// collect starts a collector that speaks OTLP over HTTP.
func collect(t *testing.T) (*traced, string) {
	t.Helper()
	c := &traced{spans: map[string][]*spans.Span{}}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var export spans.TracesData
		if err == nil {
			err = proto.Unmarshal(body, &export)
		}
		if err != nil {
			t.Errorf("the collector cannot read what arrived: %v", err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, resource := range export.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				for _, span := range scope.GetSpans() {
					c.spans[span.GetName()] = append(c.spans[span.GetName()], span)
				}
			}
		}
	}))
	t.Cleanup(server.Close)
	return c, server.URL
}

// TestATraceGoesFromTheProducerToTheEvent is not parallel: the exporter reads the environment
// of the process.
func TestATraceGoesFromTheProducerToTheEvent(t *testing.T) {
	collected, endpoint := collect(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
	var mu sync.Mutex
	var received string
	service := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		received = r.Header.Get("traceparent")
	}))
	t.Cleanup(service.Close)
	url := broker(t)
	env := []string{"NATS_URL=" + url}
	w := start(t, url, nil, "ROLLCALL_SERVICES=billing="+service.URL, "OTEL_EXPORTER_OTLP_ENDPOINT="+endpoint)
	w.until("/readyz", http.StatusOK)
	const producer = "0af7651916cd43dd8448eb211c80319c"
	wants(t, worker(t, env, "publish", "jobs.mail", "{}", "--wait", "--header", "traceparent: 00-"+producer+"-b7ad6b7169203331-01"), codeOK)
	events := worker(t, env, "events", "--all", "--follow=false", "-o", "jsonl")
	event, err := jobs.DecodeEvent([]byte(strings.TrimSpace(events.stdout)))
	if err != nil {
		t.Fatalf("%v: %q", err, events.stdout)
	}
	w.stop()
	if code := w.wait(); code != codeOK {
		t.Errorf("exit %d", code)
	}

	collected.mu.Lock()
	defer collected.mu.Unlock()
	for _, name := range []string{"process jobs", "call billing", "publish done"} {
		if len(collected.spans[name]) != 1 {
			t.Fatalf("%d spans %q reached the collector, want 1", len(collected.spans[name]), name)
		}
	}
	batch, call := collected.spans["process jobs"][0], collected.spans["call billing"][0]
	if links := batch.GetLinks(); len(links) != 1 || hex.EncodeToString(links[0].GetTraceId()) != producer {
		t.Errorf("the batch links to %v, want the producer's trace", links)
	}
	trace := hex.EncodeToString(batch.GetTraceId())
	if want := "00-" + trace + "-" + hex.EncodeToString(batch.GetSpanId()) + "-01"; event.Traceparent != want {
		t.Errorf("the event carries %q, want that of the batch, %q", event.Traceparent, want)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := "00-" + trace + "-" + hex.EncodeToString(call.GetSpanId()) + "-01"; received != want {
		t.Errorf("the service got %q, want that of its call, %q", received, want)
	}
}

func TestWithoutTracesNothingIsSaidOfThem(t *testing.T) {
	t.Parallel()
	env := answering(t, byID())
	final(t, env, "a-ok")
	if got := worker(t, env, "events", "--all", "--follow=false", "-o", "jsonl"); strings.Contains(got.stdout, "traceparent") {
		t.Errorf("the event carries a trace that nobody records: %s", got.stdout)
	}
}

func TestARunningWorkerShowsItself(t *testing.T) {
	t.Parallel()
	url := broker(t)
	js := streams(t, url)
	service := faulttest.StartRecorder(t, "billing")
	w := start(t, url, []*faulttest.Recorder{service}, "NATS_TOKEN=secret-canary", "ROLLCALL_POOL=default")
	load := faulttest.NewLoad(t, js, "JOBS", "jobs.test")
	load.Publish(50, limit)
	judge(t, js, load, service)

	var status web.Status
	faulttest.Until(t, limit, "the page counts the batches", func() bool {
		_, body := w.page("/api/v1/status")
		return json.Unmarshal([]byte(body), &status) == nil && len(status.Batches) > 0 && status.Replica.Success == 1
	})
	if status.Pool == nil || !status.Replica.Ready || status.Replica.Services[0].Name != "billing" || len(status.Settings) < 20 {
		t.Errorf("status: %+v", status)
	}
	var all string
	for _, page := range []string{"/", "/api/v1/status", "/metrics", "/readyz?verbose"} {
		code, body := w.page(page)
		if code != http.StatusOK {
			t.Errorf("%s: %d", page, code)
		}
		all += body
	}
	for _, want := range []string{`rollcall_jobs_finished_total\{outcome="succeeded",pool="default"\} 50`, `rollcall_commit_group_batches_sum\{pool="default"\} [1-9]`, `NATS_TOKEN`, `>\*\*\*<`} {
		if !regexp.MustCompile(want).MatchString(all) {
			t.Errorf("no page shows %s", want)
		}
	}
	if strings.Contains(all+w.log.String(), "secret-canary") {
		t.Error("a secret is shown")
	}
}
