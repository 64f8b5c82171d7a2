package faulttest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rollcall/internal/faulttest"
)

const oneJob = `[{"id":"a","source":"/rollcall/JOBS/e","rollcalluid":"e.1","data":{"n":1}}]`

// call posts a batch as a worker would and returns the status and body of the reply.
func call(ctx context.Context, r *faulttest.Recorder, key, body string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL(), strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/cloudevents-batch+json")
	req.Header.Set("Idempotency-Key", key)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(reply), err
}

func TestRecorderWritesEveryCallDown(t *testing.T) {
	t.Parallel()
	r := faulttest.StartRecorder(t, "billing")
	before := time.Now()
	if status, body, err := call(t.Context(), r, "k1", oneJob); err != nil || status != http.StatusOK || body != "" {
		t.Fatalf("reply %d %q, %v; want an empty 200", status, body, err)
	}
	calls := r.Calls()
	if len(calls) != 1 || r.Count() != 1 {
		t.Fatalf("%d calls with %d jobs written down, want one of each", r.Count(), len(calls))
	}
	got := calls[0]
	if got.Service != "billing" || got.ID != "a" || got.UID != "e.1" || got.Source != "/rollcall/JOBS/e" || got.Received.Before(before) {
		t.Errorf("written down: %+v", got)
	}
}

func TestRecorderReadsPlainRequests(t *testing.T) {
	t.Parallel()
	r := faulttest.StartRecorder(t, "mailer")
	r.Answer(func(req faulttest.Request) faulttest.Answer {
		return faulttest.Answer{Body: fmt.Sprintf("%v %s %d %s", req.Plain, req.Key, req.Jobs[0].Attempt, req.Jobs[0].Data)}
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, r.URL(), strings.NewReader("any bytes"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Idempotency-Key": {"k"}, "Rollcall-Uid": {"e.1"}, "Rollcall-Attempt": {"2"}}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "true k 2 any bytes" {
		t.Errorf("reply %q, %v", body, err)
	}
	if calls := r.Calls(); len(calls) != 1 || calls[0].UID != "e.1" || !calls[0].Bare {
		t.Errorf("written down: %+v", calls)
	}
}

func TestRecorderAnswersAsTold(t *testing.T) {
	t.Parallel()
	r := faulttest.StartRecorder(t, "billing")
	r.Answer(faulttest.Each(func(job faulttest.Asked) string {
		if job.ID == "a" {
			return "retry"
		}
		return "fail"
	}))
	two := strings.TrimSuffix(oneJob, "]") + "," + strings.TrimPrefix(strings.ReplaceAll(oneJob, `"a"`, `"b"`), "[")
	want := `{"results":[{"id":"a","status":"retry"},{"id":"b","status":"fail"}]}`
	if _, body, err := call(t.Context(), r, "k", two); err != nil || body != want {
		t.Errorf("reply %q, %v; want %q", body, err, want)
	}
	r.Answer(func(req faulttest.Request) faulttest.Answer {
		return faulttest.Answer{Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"7"}}}
	})
	if status, _, err := call(t.Context(), r, "k2", oneJob); err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("status %d, %v; want 503", status, err)
	}
}

func TestRecorderHangsButRecords(t *testing.T) {
	t.Parallel()
	r := faulttest.StartRecorder(t, "billing")
	r.Hang()
	ctx, cancel := context.WithTimeout(t.Context(), quiet)
	defer cancel()
	if _, _, err := call(ctx, r, "k", oneJob); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a hanging service: %v, want a time-out", err)
	}
	if r.Count() != 1 {
		t.Errorf("%d calls written down, want 1", r.Count())
	}
}

func TestRecorderGoesDownAndUp(t *testing.T) {
	t.Parallel()
	r := faulttest.StartRecorder(t, "billing")
	r.Down()
	if _, _, err := call(t.Context(), r, "k", oneJob); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a service that is down: %v, want ECONNREFUSED", err)
	}
	r.Up()
	if _, _, err := call(t.Context(), r, "k", oneJob); err != nil {
		t.Errorf("up again: %v", err)
	}
}

// A child holds every descriptor of its parent from its fork to its exec, also a listener's that
// the parent closes meanwhile.
func TestRecorderGoesDownAndUpWhileChildrenAreStarted(t *testing.T) {
	t.Parallel()
	var children sync.WaitGroup
	defer children.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	children.Go(func() {
		for ctx.Err() == nil {
			_ = exec.CommandContext(ctx, "true").Run() // it is started for its fork alone
		}
	})
	r := faulttest.StartRecorder(t, "billing")
	for range 100 {
		r.Down()
		r.Up()
	}
}

func TestRecorderNoticesOneKeyForTwoBodies(t *testing.T) {
	t.Parallel()
	r := faulttest.StartRecorder(t, "billing")
	other := strings.ReplaceAll(oneJob, `"n":1`, `"n":2`)
	for _, body := range []string{oneJob, oneJob, other} {
		if _, _, err := call(t.Context(), r, "same", body); err != nil {
			t.Fatal(err)
		}
	}
	if mixed := r.Mixed(); len(mixed) != 1 || mixed[0] != "same" {
		t.Errorf("mixed keys %q, want the one that came with two bodies", mixed)
	}
}
