package app_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
)

// settled waits for the rest of the pool and returns what became of each job by its last event,
// and how many dead letters there are.
func (r *rig) settled() (outcomes map[string]jobs.EventJob, dead int) {
	r.t.Helper()
	cfg := r.config()
	faulttest.WaitRest(r.t, r.js, cfg.Streams.Stream, cfg.Pool, limit)
	events, err := faulttest.Events(r.t.Context(), r.js)
	if err != nil {
		r.t.Fatal(err)
	}
	outcomes = map[string]jobs.EventJob{}
	for _, e := range events {
		for _, j := range e.Data.Jobs {
			if was, found := outcomes[j.ID]; found && was.Outcome.Final() {
				r.t.Errorf("job %s is final twice: %+v, %+v", j.ID, was, j)
			}
			outcomes[j.ID] = j
		}
	}
	return outcomes, len(r.stored("DEAD"))
}

// A mistake in the settings is nobody's job. A backlog meets a service that answers 401,
// as with a wrong secret, until somebody fixes it.
func TestAWrongSecretKillsNoJob(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"batch", "plain"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			const backlog = 300
			var fixed atomic.Bool
			var refused, served atomic.Int32
			url := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if !fixed.Load() {
					fixed.Store(refused.Add(1) >= 2) // the first probe finds it wrong, the second one right
					http.Error(w, "bad signature", http.StatusUnauthorized)
					return
				}
				served.Add(1)
			}))
			t.Cleanup(url.Close)
			r := newRig(t, nil, "ROLLCALL_SERVICES=billing="+url.URL, "ROLLCALL_SVC_BILLING_FORMAT="+format, "ROLLCALL_SVC_BILLING_CONCURRENCY=1", "ROLLCALL_MAX_ATTEMPTS=1")
			for i := range backlog {
				r.send("jobs.test", fmt.Sprintf("j%d", i), `{"n":1}`)
			}
			r.start()
			outcomes, dead := r.settled()
			if len(outcomes) != backlog || dead != 0 || refused.Load() > 10 {
				t.Errorf("%d jobs, %d dead letters, %d requests refused", len(outcomes), dead, refused.Load())
			}
			for id, j := range outcomes {
				if j.Outcome != jobs.Succeeded || j.Attempt != 1 {
					t.Errorf("job %s: %+v", id, j)
				}
			}
		})
	}
}

// TestAServiceThatExistsAlreadyIsCalledOncePerJob has a service that knows nothing of Rollcall,
// with the job in its path and a JSON reply of its own.
func TestAServiceThatExistsAlreadyIsCalledOncePerJob(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	calls := map[string]int{}
	url := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		calls[r.Method+" "+r.URL.Path+" "+r.Header.Get("X-Tenant")]++
		if r.URL.Path == "/v1/orders/7/invoice" {
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, `{"error":"field customer_id is required"}`)
			return
		}
		_, _ = io.WriteString(w, `{"status":"created","id":"x"}`)
	}))
	t.Cleanup(url.Close)
	r := newRig(t, nil, "ROLLCALL_SERVICES=invoice="+url.URL+"/v1/orders/{data:/order}/invoice", "ROLLCALL_SVC_INVOICE_FORMAT=plain",
		"ROLLCALL_SVC_INVOICE_METHOD=PUT", "ROLLCALL_SVC_INVOICE_HEADERS=X-Tenant:{header:tenant}", "ROLLCALL_SVC_INVOICE_KEEP=true")
	for i := range 50 {
		r.send("jobs.test", fmt.Sprintf("j%d", i), fmt.Sprintf(`{"order":%d}`, i), "Tenant", "acme")
	}
	r.send("jobs.test", "no-order", `{}`, "Tenant", "acme")
	r.start()
	outcomes, dead := r.settled()
	said := slices.ContainsFunc(r.stored("DONE"), func(m *jetstream.RawStreamMsg) bool {
		return bytes.Contains(m.Data, []byte(`"error":"http_4xx: answered 422 Unprocessable Entity:`))
	})
	if !said {
		t.Error("no event says what the service answered")
	}
	for id, j := range outcomes {
		switch {
		case id == "j7" && j.Outcome == jobs.Failed && j.Reason == `http_4xx: answered 422 Unprocessable Entity: {"error":"field customer_id is required"}`:
		case id == "no-order" && j.Outcome == jobs.Failed:
		case j.Outcome == jobs.Succeeded && string(j.Data["invoice"]) == `{"status":"created","id":"x"}`:
		default:
			t.Errorf("job %s: %+v", id, j)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(outcomes) != 51 || dead != 2 || len(calls) != 50 {
		t.Errorf("%d jobs, %d dead letters, calls %v", len(outcomes), dead, calls)
	}
	for line, n := range calls {
		if n != 1 {
			t.Errorf("%s was called %d times", line, n)
		}
	}
}
