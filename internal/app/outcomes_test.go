package app_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
)

// The next attempt calls only the services that have not succeeded yet, on whichever
// replica it happens.
func TestAnotherReplicaCallsOnlyWhatIsMissing(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing", "search"}, "ROLLCALL_SVC_SEARCH_TRIES=1", "ROLLCALL_RETRY_MIN=300ms", "ROLLCALL_RETRY_MAX=300ms")
	search := r.services["search"]
	search.Answer(faulttest.Each(func(faulttest.Asked) string { return "retry" }))
	r.send("jobs.test", "a", "1")
	stop := r.start("ROLLCALL_RETRY_MIN=1h", "ROLLCALL_RETRY_MAX=1h", "ROLLCALL_JOB_MAX_AGE=0")
	faulttest.Until(t, limit, "the first attempt is stored", func() bool {
		events, err := faulttest.Events(t.Context(), r.js)
		return err == nil && len(events) == 1
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	search.Answer(func(faulttest.Request) faulttest.Answer { return faulttest.Answer{} })
	r.hurry()
	r.start()
	h := r.judge()
	if last := h.Events[1].Data; last.Replica != "r2" || last.Jobs[0].Services["billing"] != "ok" || last.Jobs[0].Attempt != 2 {
		t.Errorf("the second attempt: %+v", last)
	}
	if billing, n := callsFor(r.services["billing"], "a"), callsFor(search, "a"); billing != 1 || n != 2 {
		t.Errorf("billing was called %d times and search %d times, want 1 and 2", billing, n)
	}
}

// Optional services are reported and never fail a job, nor hold it back.
func TestOptionalServicesNeverFailAJob(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing", "search", "stats"},
		"ROLLCALL_SVC_SEARCH_REQUIRED=false", "ROLLCALL_SVC_STATS_REQUIRED=false", "ROLLCALL_SVC_STATS_TRIES=1")
	r.services["search"].Answer(faulttest.Each(func(faulttest.Asked) string { return "fail" }))
	r.services["stats"].Down()
	r.send("jobs.test", "a", "1")
	r.start()
	h := r.judge()
	j := ends(h)["a"]
	if j.Outcome != "succeeded" || j.Attempt != 1 || j.Services["search"] != "fail" || j.Services["stats"] != "retry" {
		t.Errorf("got %+v", j)
	}
	for _, s := range h.Events[0].Data.Services {
		if s.Required != (s.Name == "billing") {
			t.Errorf("service %+v", s)
		}
	}
	if len(h.DeadLetters) != 0 {
		t.Errorf("dead letters %v", h.DeadLetters)
	}
}

// A pool may have nothing but an optional service: it is called for the jobs, and they are done.
func TestAnOptionalServiceMayBeTheOnlyOne(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"stats"}, "ROLLCALL_SVC_STATS_REQUIRED=false", "ROLLCALL_SVC_STATS_TRIES=1")
	r.services["stats"].Answer(func(faulttest.Request) faulttest.Answer {
		return faulttest.Answer{Status: http.StatusInternalServerError}
	})
	r.send("jobs.test", "a", "1")
	r.start()
	if j := ends(r.judge())["a"]; j.Outcome != "succeeded" || j.Services["stats"] != "retry" {
		t.Errorf("got %+v", j)
	}
}

// Past its deadline a job is expired without a call, also when it was
// tried before; a deadline that cannot be read makes it invalid. Both leave a dead letter.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"})
	r.services["billing"].Answer(faulttest.Each(func(j faulttest.Asked) string {
		if j.ID == "tried" {
			return "retry"
		}
		return "ok"
	}))
	now := time.Now()
	r.send("jobs.test", "late", "1", "Rollcall-Deadline", now.Add(-time.Second).Format(time.RFC3339Nano))
	r.send("jobs.test", "tried", "1", "rollcall-deadline", now.Add(2*time.Second).Format(time.RFC3339Nano))
	r.send("jobs.test", "unreadable", "1", "Rollcall-Deadline", "tomorrow")
	r.send("jobs.test", "in time", "1", "Rollcall-Deadline", now.Add(time.Hour).Format(time.RFC3339))
	r.start("ROLLCALL_MAX_ATTEMPTS=1000")
	h := r.judge()
	got := ends(h)
	for id, want := range map[string]jobs.Outcome{"late": "expired", "tried": "expired", "unreadable": "invalid", "in time": "succeeded"} {
		if got[id].Outcome != want {
			t.Errorf("job %s: %+v, want %s", id, got[id], want)
		}
	}
	if got["tried"].Attempt == 0 || callsFor(r.services["billing"], "late")+callsFor(r.services["billing"], "unreadable") != 0 {
		t.Errorf("tried: %+v; the others must not be called for", got["tried"])
	}
	if len(h.DeadLetters) != 3 {
		t.Errorf("dead letters %v, want 3", h.DeadLetters)
	}
}

// While a breaker is open nothing is sent, so no attempt is burnt, and there is no event.
func TestAnOpenBreakerBurnsNoAttempt(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"}, "ROLLCALL_BATCH_SIZE=1", "ROLLCALL_BATCH_LINGER=0s", "ROLLCALL_BATCHES_IN_FLIGHT=1",
		"ROLLCALL_SVC_BILLING_TRIES=1", "ROLLCALL_MAX_ATTEMPTS=12")
	r.services["billing"].Answer(func(req faulttest.Request) faulttest.Answer {
		if req.Number <= 10 {
			return faulttest.Answer{Status: http.StatusInternalServerError}
		}
		return faulttest.Answer{}
	})
	r.send("jobs.test", "a", "1")
	r.start()
	h := r.judge()
	held := 0
	for _, e := range h.Events {
		if e.Data.Services[0].Tries == 0 {
			held++
		}
	}
	// Ten calls open the breaker; the eleventh is the first that is let through.
	if j := ends(h)["a"]; j.Outcome != "succeeded" || j.Attempt != 11 || held != 0 {
		t.Errorf("%+v, and %d events of batches without a call; want success at attempt 11, and none", j, held)
	}
}

// With its attempts used up a job is failed, and its reason says what happened.
func TestAttemptsAreUsedUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"}, "ROLLCALL_MAX_ATTEMPTS=3", "ROLLCALL_SVC_BILLING_TRIES=1")
	r.services["billing"].Answer(faulttest.Each(func(faulttest.Asked) string { return "retry" }))
	r.send("jobs.test", "a", "1")
	r.start()
	if j := ends(r.judge())["a"]; j.Outcome != "failed" || j.Attempt != 3 || j.Reason != "gave up after 3 attempts: the service asked for a retry" {
		t.Errorf("got %+v", j)
	}
}

// A service that hangs costs the batches that wait for it, not the calls of other
// slots to other services.
func TestAHangingServiceDoesNotDelayOtherSlots(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing", "search"}, "ROLLCALL_BATCH_SIZE=1", "ROLLCALL_BATCH_LINGER=0s", "ROLLCALL_BATCHES_IN_FLIGHT=4")
	release := make(chan struct{})
	r.services["search"].Answer(func(faulttest.Request) faulttest.Answer {
		<-release
		return faulttest.Answer{}
	})
	for range 4 {
		r.send("jobs.test", "", "1")
	}
	r.start("ROLLCALL_SVC_SEARCH_TIMEOUT=1h")
	faulttest.Until(t, limit, "every slot has called both services", func() bool {
		return r.services["billing"].Count() == 4 && r.services["search"].Count() == 4
	})
	close(release)
	r.judge()
}

// A delayed job is not a job of the pool until the server says so, and is one like any other
// from then on.
func TestADelayedJobIsDoneWhenDue(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"})
	r.start()
	due := time.Now().Add(1500 * time.Millisecond)
	r.send("later.mail-7", "", `{"n":7}`, "Nats-Schedule", "@at "+due.UTC().Format(time.RFC3339Nano), "Nats-Schedule-Target", "due.mail", "ce-id", "mail-7")
	faulttest.Until(t, limit, "an event", func() bool {
		events, err := faulttest.Events(t.Context(), r.js)
		return err == nil && len(events) > 0
	})
	events, err := faulttest.Events(t.Context(), r.js)
	if err != nil {
		t.Fatal(err)
	}
	j := events[0].Data.Jobs[0]
	if j.ID != "mail-7" || j.Subject != "jobs.mail" || j.Outcome != "succeeded" {
		t.Errorf("got %+v", j)
	}
	if called := r.services["billing"].Calls()[0].Received; called.Before(due.Add(-time.Second)) {
		t.Errorf("called %v before it was due", due.Sub(called))
	}
}

// hurry makes the jobs that wait out a back-off due at once, as a new consumer does.
func (r *rig) hurry() {
	r.t.Helper()
	if err := r.js.DeleteConsumer(r.t.Context(), "JOBS", "default"); err != nil {
		r.t.Fatal(err)
	}
	if made := r.setup(r.config()).Created; len(made) != 1 {
		r.t.Fatalf("created %v, want the consumer", made)
	}
}

// Sent twice under one Nats-Msg-Id, it is one job.
func TestTheSameMessageIDIsOneJob(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"})
	r.send("jobs.test", "order-42", "1")
	ack, err := r.js.Publish(t.Context(), "jobs.test", []byte("1"), jetstream.WithMsgID("order-42"))
	if err != nil || !ack.Duplicate {
		t.Errorf("the second: %+v, %v", ack, err)
	}
	r.start()
	if h := r.judge(); len(ends(h)) != 1 || ends(h)["order-42"].Outcome != jobs.Succeeded {
		t.Errorf("ended: %+v", ends(h))
	}
}

// However long a service takes, within its time-out, the job is out once: its lease is
// extended as long as it is held.
func TestACallMayLastLongerThanALease(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"}, "ROLLCALL_ACK_WAIT=3s")
	r.services["billing"].Answer(func(faulttest.Request) faulttest.Answer {
		return faulttest.Answer{Wait: 4 * time.Second}
	})
	r.send("jobs.test", "a", "1")
	r.start()
	r.start() // a second replica, to be given what the first seems to have lost
	if j := ends(r.judge())["a"]; j.Attempt != 1 || callsFor(r.services["billing"], "a") != 1 {
		t.Errorf("%+v after %d calls", j, callsFor(r.services["billing"], "a"))
	}
	c, err := r.js.Consumer(t.Context(), "JOBS", "default")
	if err != nil || c.CachedInfo().Delivered.Consumer != 1 {
		t.Errorf("delivered %+v: %v", c.CachedInfo().Delivered, err)
	}
}

// With few attempts, jobs whose every call fails end as the settings say, also when they are many:
// the breaker does not open while they use them up.
func TestFewAttemptsAreUsedUpBeforeTheBreakerOpens(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"}, "ROLLCALL_MAX_ATTEMPTS=3", "ROLLCALL_RETRY_MIN=50ms", "ROLLCALL_RETRY_MAX=100ms")
	r.services["billing"].Answer(func(faulttest.Request) faulttest.Answer {
		return faulttest.Answer{Status: http.StatusInternalServerError}
	})
	ids := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}
	for _, id := range ids {
		r.send("jobs.test", id, "1")
	}
	r.start()
	h := r.judge()
	for _, id := range ids {
		if j := ends(h)[id]; j.Outcome != "failed" || j.Attempt != 3 {
			t.Errorf("%s: %+v, want it failed at attempt 3", id, j)
		}
	}
}
