package contracts_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"rollcall/internal/telemetry/otlp"
)

// TestOTLP holds the exporter of traces against the messages that OpenTelemetry publishes: it writes and
// reads them without these types, which import gRPC.
func TestOTLP(t *testing.T) {
	t.Parallel()
	var request collector.ExportTraceServiceRequest
	var reply proto.Message
	code := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = proto.Unmarshal(body, &request)
		}
		if err != nil {
			t.Error(err)
		}
		text, err := proto.Marshal(reply)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
		w.WriteHeader(code)
		w.Write(text)
	}))
	t.Cleanup(server.Close)
	client, err := otlp.NewClient(func(name string) string {
		if name == "OTEL_EXPORTER_OTLP_ENDPOINT" {
			return server.URL
		}
		return ""
	})
	if err != nil {
		t.Fatal(err)
	}
	sent := []*tracepb.ResourceSpans{
		{ScopeSpans: []*tracepb.ScopeSpans{{Spans: []*tracepb.Span{{Name: "process jobs", TraceId: make([]byte, 16)}}}}},
		{SchemaUrl: "https://opentelemetry.io/schemas/1.37.0"},
	}
	reply = &collector.ExportTraceServiceResponse{}
	if err := client.UploadTraces(t.Context(), sent); err != nil {
		t.Errorf("an export that was taken: %v", err)
	}
	if want := (&collector.ExportTraceServiceRequest{ResourceSpans: sent}); !proto.Equal(&request, want) {
		t.Errorf("the collector read %v, want %v", &request, want)
	}
	reply = &collector.ExportTraceServiceResponse{PartialSuccess: &collector.ExportTracePartialSuccess{RejectedSpans: 7, ErrorMessage: "too old"}}
	if err := client.UploadTraces(t.Context(), sent); err == nil || !strings.Contains(err.Error(), `refused 7 spans: "too old"`) {
		t.Errorf("a part was refused: %v", err)
	}
	reply, code = &status.Status{Code: 3, Message: "no trace id"}, http.StatusBadRequest
	if err := client.UploadTraces(t.Context(), sent); err == nil || !strings.Contains(err.Error(), `400 Bad Request: "no trace id"`) {
		t.Errorf("the export was refused: %v", err)
	}
}
