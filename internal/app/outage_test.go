package app_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
)

// TestAnOutageOfAServiceCostsNoStorage: a service refuses connections while its jobs come back again
// and again. Nothing is written for that, no attempt is burnt, and all is done once it is back.
func TestAnOutageOfAServiceCostsNoStorage(t *testing.T) {
	t.Parallel()
	const n = 200
	r := newRig(t, []string{"billing"}, "ROLLCALL_MAX_ATTEMPTS=1", "ROLLCALL_RETRY_MAX=200ms", "ROLLCALL_SVC_BILLING_TRIES=1")
	r.services["billing"].Down()
	r.load.Publish(n, limit)
	r.start()
	consumer, err := r.js.Consumer(t.Context(), "JOBS", "default")
	if err != nil {
		t.Fatal(err)
	}
	delivered := func(rounds uint64) func() bool {
		return func() bool {
			info, err := consumer.Info(t.Context())
			return err == nil && info.Delivered.Consumer >= rounds*n
		}
	}
	faulttest.Until(t, limit, "every job came back", delivered(2))
	early := stored(t, r.js)
	faulttest.Until(t, limit, "every job came back five more times", delivered(7))
	late := stored(t, r.js)
	if late.events != 0 {
		t.Errorf("%d events were stored while nothing could be sent", late.events)
	}
	// The pages of 200 jobs, however often they are written.
	if pages := uint64(n/jobs.PageSize + 2); late.messages > pages {
		t.Errorf("%d messages in DONE, and %d before; the jobs stand on %d pages", late.messages, early.messages, pages)
	}
	r.services["billing"].Up()
	h := r.judge()
	for id, j := range ends(h) {
		if j.Outcome != jobs.Succeeded || j.Attempt != 1 {
			t.Errorf("job %s: %+v, want success at the first attempt", id, j)
		}
	}
	if len(ends(h)) != n {
		t.Errorf("%d of %d jobs are done", len(ends(h)), n)
	}
}

// holding is what the DONE stream holds.
type holding struct{ messages, events uint64 }

func stored(t *testing.T, js jetstream.JetStream) (h holding) {
	t.Helper()
	stream, err := js.Stream(t.Context(), "DONE")
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter("done.batches.>"))
	if err != nil {
		t.Fatal(err)
	}
	for _, count := range info.State.Subjects {
		h.events += count
	}
	h.messages = info.State.Msgs
	return h
}

// TestPoisonThatAnswers500LeavesItsMatesAlone: one job in fifty makes its whole call fail.
func TestPoisonThatAnswers500LeavesItsMatesAlone(t *testing.T) {
	t.Parallel()
	const n, every = 100, 50
	r := newRig(t, []string{"billing"}, "ROLLCALL_SVC_BILLING_TRIES=1")
	r.services["billing"].Answer(func(req faulttest.Request) faulttest.Answer {
		if slices.ContainsFunc(req.Jobs, func(j faulttest.Asked) bool { return strings.HasPrefix(j.ID, "poison") }) {
			return faulttest.Answer{Status: http.StatusInternalServerError}
		}
		return faulttest.Answer{}
	})
	for i := range n {
		id := fmt.Sprintf("job-%d", i)
		if i%every == 0 {
			id = fmt.Sprintf("poison-%d", i)
		}
		r.send("jobs.test", id, "1")
	}
	r.start()
	stream, err := r.js.Stream(t.Context(), "JOBS")
	if err != nil {
		t.Fatal(err)
	}
	// While the breaker is open three calls go through every five seconds, and which jobs they hold is
	// chance: 7 to 52 seconds were seen.
	faulttest.Until(t, 4*limit, "only the poison waits", func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.State.Msgs <= n/every
	})
	r.services["billing"].Answer(func(faulttest.Request) faulttest.Answer { return faulttest.Answer{} })
	for id, j := range ends(r.judge()) {
		if !strings.HasPrefix(id, "poison") && (j.Outcome != jobs.Succeeded || j.Attempt > 8) {
			t.Errorf("job %s: %s after %d attempts: %s", id, j.Outcome, j.Attempt, j.Reason)
		}
	}
}

// TestAFullStreamOfDeadLettersHoldsUpOnlyTheJobsThatFailed: their mates are done, and once there is
// room they end as well.
func TestAFullStreamOfDeadLettersHoldsUpOnlyTheJobsThatFailed(t *testing.T) {
	t.Parallel()
	const n, every = 100, 20
	r := newRig(t, []string{"billing"})
	bound := func(bytes int64) {
		stream, err := r.js.Stream(t.Context(), "DEAD")
		if err != nil {
			t.Fatal(err)
		}
		cfg := stream.CachedInfo().Config
		cfg.MaxBytes, cfg.Discard = bytes, jetstream.DiscardNew
		if _, err := r.js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	bound(1)
	r.services["billing"].Answer(results(func(j faulttest.Asked) map[string]any {
		if strings.HasPrefix(j.ID, "bad") {
			return map[string]any{"id": j.UID, "status": "fail", "error": "declined"}
		}
		return map[string]any{"id": j.UID, "status": "ok"}
	}))
	for i := range n {
		id := fmt.Sprintf("job-%d", i)
		if i%every == 0 {
			id = fmt.Sprintf("bad-%d", i)
		}
		r.send("jobs.test", id, "1")
	}
	r.start()
	stream, err := r.js.Stream(t.Context(), "JOBS")
	if err != nil {
		t.Fatal(err)
	}
	faulttest.Until(t, limit, "only the jobs that failed wait", func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.State.Msgs == n/every
	})
	bound(1 << 20)
	h := r.judge()
	for id, j := range ends(h) {
		if bad := strings.HasPrefix(id, "bad"); bad != (j.Outcome == jobs.Failed) || bad && j.Reason != "declined" {
			t.Errorf("job %s: %+v", id, j)
		}
	}
	if len(h.DeadLetters) != n/every {
		t.Errorf("%d dead letters, want %d", len(h.DeadLetters), n/every)
	}
}
