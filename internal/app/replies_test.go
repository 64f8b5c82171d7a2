package app_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
)

// A reply that names a job nobody asked about is a failure of the whole call, and the
// call is made again for all of its jobs.
func TestAnUnknownIDRepeatsTheWholeCall(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"}, "ROLLCALL_BATCH_SIZE=3", "ROLLCALL_BATCH_LINGER=20s", "ROLLCALL_SVC_BILLING_TRIES=1")
	r.services["billing"].Answer(func(req faulttest.Request) faulttest.Answer {
		if req.Number == 1 {
			return faulttest.Answer{Body: `{"results":[{"id":"a","status":"ok"},{"id":"somebody else's","status":"ok"}]}`}
		}
		return faulttest.Answer{}
	})
	for _, id := range []string{"a", "b", "c"} {
		r.send("jobs.test", id, "1")
	}
	r.start("ROLLCALL_BATCH_LINGER=100ms")
	h := r.judge()
	if c := h.Events[0].Data.Counts; c.Retrying != 3 {
		t.Errorf("the first event counts %+v, want 3 retrying", c)
	}
	for id, j := range ends(h) {
		if n := callsFor(r.services["billing"], id); n != 2 || j.Attempt != 2 || j.Outcome != "succeeded" {
			t.Errorf("job %s: %d calls, %+v", id, n, j)
		}
	}
}

// What a service asks for by Retry-After, or for one job by retry_after, is the least
// that passes until the next attempt.
func TestRetryAfterIsWaitedForBetweenAttempts(t *testing.T) {
	t.Parallel()
	const pause = 700 * time.Millisecond
	first := map[string]func(faulttest.Request) faulttest.Answer{
		"whole call": func(faulttest.Request) faulttest.Answer {
			return faulttest.Answer{Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"1"}}}
		},
		"one job": results(func(faulttest.Asked) map[string]any {
			return map[string]any{"status": "retry", "retry_after": "700ms"}
		}),
	}
	for name, answer := range first {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, []string{"billing"}, "ROLLCALL_SVC_BILLING_TRIES=1", "ROLLCALL_RETRY_MIN=1ms", "ROLLCALL_RETRY_MAX=1m", "ROLLCALL_ACK_WAIT=5m", "ROLLCALL_ZOMBIE_HORIZON=5m")
			r.services["billing"].Answer(func(req faulttest.Request) faulttest.Answer {
				if req.Number == 1 {
					return answer(req)
				}
				return faulttest.Answer{}
			})
			r.send("jobs.test", "a", "1")
			r.start()
			h := r.judge()
			calls := r.services["billing"].Calls()
			if len(calls) != 2 || ends(h)["a"].Attempt != 2 {
				t.Fatalf("%d calls, %+v", len(calls), ends(h)["a"])
			}
			if waited := calls[1].Received.Sub(calls[0].Received); waited < pause {
				t.Errorf("the second attempt came after %v", waited)
			}
		})
	}
}

// A call that a service refuses for good is halved until the job that causes it stands
// alone; every part has an idempotency key of its own. The others go free.
func TestAJobThatSpoilsItsBatchIsFoundByHalving(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing", "search"}, "ROLLCALL_BATCH_SIZE=16", "ROLLCALL_BATCH_LINGER=20s")
	var mu sync.Mutex
	keys := map[string]int{}
	r.services["billing"].Answer(func(req faulttest.Request) faulttest.Answer {
		mu.Lock()
		defer mu.Unlock()
		keys[req.Key]++
		if slices.ContainsFunc(req.Jobs, func(j faulttest.Asked) bool { return j.ID == "j11" }) {
			return faulttest.Answer{Status: http.StatusUnprocessableEntity}
		}
		return faulttest.Answer{}
	})
	for i := range 16 {
		r.send("jobs.test", fmt.Sprintf("j%d", i), "1")
	}
	r.start()
	h := r.judge()
	for id, j := range ends(h) {
		if want := map[bool]jobs.Outcome{true: jobs.Failed, false: jobs.Succeeded}[id == "j11"]; j.Outcome != want || j.Attempt != 1 {
			t.Errorf("job %s: %+v, want %s", id, j, want)
		}
	}
	// 16, then two halves at each of four steps.
	if len(keys) != 9 || r.services["search"].Count() != 1 {
		t.Errorf("%d keys at the service that refuses, %d calls at the other; want 9 and 1", len(keys), r.services["search"].Count())
	}
	for key, n := range keys {
		if parts := strings.Split(strings.Trim(key, `"`), ":"); n != 1 || parts[0] != h.Events[0].ID || parts[1] != "billing" {
			t.Errorf("key %s came %d times", key, n)
		}
	}
}

// What services answer by `data` is in the event, under their names.
func TestDataOfRepliesIsInTheEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing", "search"})
	for name, s := range r.services {
		s.Answer(results(func(j faulttest.Asked) map[string]any {
			return map[string]any{"status": "ok", "data": map[string]string{"from": name, "for": j.ID}}
		}))
	}
	r.send("jobs.test", "a", "1")
	r.start()
	got := ends(r.judge())["a"].Data
	for name := range r.services {
		if want := fmt.Sprintf(`{"for":"a","from":%q}`, name); string(got[name]) != want {
			t.Errorf("data of %s: %s, want %s", name, got[name], want)
		}
	}
}

// An event that would outgrow the server's max payload loses the data first, and
// says so; what became of each job stays.
func TestDataIsCutFromAnEventThatWouldNotFit(t *testing.T) {
	t.Parallel()
	const payload = 16 << 10
	r := newRigOn(t, small(payload), []string{"billing", "search"}, "ROLLCALL_BATCH_SIZE=20")
	for _, s := range r.services {
		s.Answer(results(func(faulttest.Asked) map[string]any {
			return map[string]any{"status": "ok", "data": strings.Repeat("x", 1000)}
		}))
	}
	for i := range 20 {
		r.send("jobs.test", fmt.Sprintf("j%d", i), "1")
	}
	r.start()
	h := r.judge()
	cut := 0
	for _, e := range h.Events {
		for _, j := range e.Data.Jobs {
			if e.Data.Truncated && j.Data != nil || j.Services["search"] != "ok" || j.UID == "" {
				t.Errorf("truncated %t, job %+v", e.Data.Truncated, j)
			}
			if e.Data.Truncated {
				cut++
			}
		}
	}
	if cut == 0 || len(ends(h)) != 20 {
		t.Errorf("%d of %d jobs without their data", cut, len(ends(h)))
	}
}
