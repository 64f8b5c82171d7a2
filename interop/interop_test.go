package interop_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

// batch returns a call for one job of every format a body can have.
func batch() *jobs.Call {
	var list []*jobs.Job
	for i, d := range []jobs.Delivery{
		{Data: []byte(`{"order":42,"note":"grüße"}`)},
		{Data: []byte("plain <text> & \u2028 \"quotes\"")},
		{Data: []byte{0xff, 0x00, 0xfe}},
		{Data: nil},
		{Data: []byte(`<a/>`), Header: map[string][]string{"Content-Type": {"application/xml"}}},
		{Data: []byte(`{"n":1}`), Header: map[string][]string{"ce-id": {"event-7"}, "ce-type": {"com.example.order"}, "ce-time": {"2026-01-31T12:00:00.5Z"},
			"ce-source": {"/shop/7"}, "ce-subject": {"order%20%E2%82%AC"}, "ce-tenant": {"acme"}, "ce-dataschema": {"https://example.com/schema"}}},
		{Data: []byte(`{"specversion":"1.0","id":"s-1","source":"/shop","type":"com.example.cart",
			"tenant":123456789012,"score":1.5,"rank":-3,"urgent":true,"data":[1,2]}`),
			Header: map[string][]string{"Content-Type": {"application/cloudevents+json"}}},
	} {
		d.Subject, d.Source, d.Published = "jobs.order", "/rollcall/JOBS/dk3x0q1z7f4w", time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
		d.Ref = jobs.Ref{Epoch: "dk3x0q1z7f4w", Seq: uint64(i + 1)}
		j := jobs.Decode(d, 0)
		list = append(list, &j)
	}
	b := &jobs.Batch{ID: "0190b0c4-0000-7000-8000-000000000001", Pool: "default", Jobs: list}
	return &jobs.Call{BatchID: b.ID, Pool: b.Pool, Service: "billing", Key: jobs.CallKey(b, "billing", list), Jobs: list,
		Body: jobs.AppendCall(nil, list), Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
}

func config() service.Config {
	return service.Config{Timeout: 10 * time.Second, Tries: 2, Concurrency: 8, Required: true, MaxReply: 64 * jobs.KiB, Method: http.MethodPost}
}

func newService(t *testing.T, url string, cfg service.Config) *service.Service {
	t.Helper()
	s, err := service.New("billing", url, cfg, service.Deps{Version: "1.0.0", RetryMax: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// request is one call as it arrived.
type request struct {
	header http.Header
	body   []byte
}

// capture sends a call with these settings and returns what arrived.
func capture(t *testing.T, cfg service.Config, c *jobs.Call) request {
	t.Helper()
	got := make(chan request, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- request{r.Header, body}
	}))
	t.Cleanup(srv.Close)
	if r := newService(t, srv.URL, cfg).Call(t.Context(), c); r.Failure != nil {
		t.Fatal(r.Failure)
	}
	return <-got
}

// results is a reply in Rollcall's dialect that says ok for every job, as a path of go-httpbin.
func results(t *testing.T, c *jobs.Call) string {
	t.Helper()
	var entries []map[string]any
	for _, j := range c.Jobs {
		entries = append(entries, map[string]any{"id": j.ID, "status": "ok", "data": j.UID})
	}
	body, err := json.Marshal(map[string]any{"results": entries})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/base64/decode/%s", base64.URLEncoding.EncodeToString(body))
}
