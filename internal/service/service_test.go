package service_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

// config returns quick settings: tests wait for events, not for time-outs.
func config() service.Config {
	return service.Config{
		Timeout: 10 * time.Second, Tries: 3, Concurrency: 8, Required: true, MaxReply: jobs.MiB, Method: http.MethodPost,
	}
}

// call returns a call for n jobs named a0, a1, ….
func call(n int) *jobs.Call {
	list := make([]*jobs.Job, n)
	for i := range list {
		d := jobs.Delivery{Subject: "jobs.test", Source: "/rollcall/JOBS/e", Ref: jobs.Ref{Epoch: "e", Seq: uint64(i + 1)},
			Header: map[string][]string{jobs.HeaderMsgID: {fmt.Sprintf("a%d", i)}}, Data: []byte(`{"n":1}`)}
		j := jobs.Decode(d, 0)
		list[i] = &j
	}
	batch := &jobs.Batch{ID: "0190b0c4-0000-7000-8000-000000000001", Pool: "default", Jobs: list}
	return &jobs.Call{BatchID: batch.ID, Pool: batch.Pool, Service: "billing", Key: jobs.CallKey(batch, "billing", list),
		Jobs: list, Body: jobs.AppendCall(nil, list)}
}

// newService returns a service that is closed with the test.
func newService(t testing.TB, url string, cfg service.Config, deps service.Deps) *service.Service {
	t.Helper()
	if deps.RetryMax == 0 {
		deps.RetryMax = time.Minute
	}
	s, err := service.New("billing", url, cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// serve returns the URL of a test server.
func serve(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestCallSucceeds(t *testing.T) {
	t.Parallel()
	url := serve(t, func(http.ResponseWriter, *http.Request) {})
	s := newService(t, url, config(), service.Deps{})
	result := s.Call(context.Background(), call(3))
	if result.Failure != nil || result.Tries != 1 || len(result.Replies) != 3 {
		t.Fatalf("got %+v", result)
	}
	for i, r := range result.Replies {
		if r.Status != jobs.StatusOK {
			t.Errorf("job %d: got %v, want ok", i, r.Status)
		}
	}
}

// jsonOf encodes v without escapes for HTML.
func jsonOf(v any) ([]byte, error) { return json.Marshal(v) }
