package main

import (
	"strings"
	"testing"
	"time"

	"rollcall/internal/faulttest"
	"rollcall/internal/history"
	"rollcall/internal/jobs"
	"rollcall/internal/operate"
)

// cancelEvents returns the stored events that a cancel made, by the uid of their job.
func cancelEvents(t *testing.T, url string) map[string]jobs.Event {
	t.Helper()
	events, err := faulttest.Events(t.Context(), streams(t, url))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]jobs.Event{}
	for _, e := range events {
		if e.Data.Seal == jobs.SealCancel {
			found[e.Data.Jobs[0].UID] = e.Event
		}
	}
	return found
}

func TestCancel_AJobThatWaits(t *testing.T) {
	t.Parallel()
	env := prepared(t)
	url := strings.TrimPrefix(env[0], "NATS_URL=")
	wants(t, worker(t, env, "publish", "jobs.mail", "{}", "--id", "mail-1"), codeOK)
	report := decode[operate.JobReport](t, worker(t, env, "cancel", "mail-1", "-o", "json"))
	if report.Outcome != jobs.Cancelled || report.State != operate.JobFinal {
		t.Errorf("%+v", report)
	}
	event := cancelEvents(t, url)[report.UID]
	if d := event.Data; event.Subject != "failed" || d.Counts.Cancelled != 1 || d.Counts.Total != 1 || len(d.Services) != 0 || !strings.Contains(d.Replica, "@") {
		t.Errorf("the event: %+v", event)
	}
	if n := waitingJobs(t, url); n != 0 {
		t.Errorf("%d jobs wait, want none", n)
	}
	wants(t, worker(t, env, "cancel", "mail-1"), codeFailed, "has ended already: cancelled")
	wants(t, worker(t, env, "cancel", report.UID), codeFailed, "has ended already")
	wants(t, worker(t, env, "cancel", "mail-2"), codeNotFound, "mail-2")
	wants(t, worker(t, env, "dead", "ls"), codeOK, "No dead letters of pool default.")
}

// TestCancel_AJobThatIsWorkedOn: the service hangs, the call is cut, and no other begins.
func TestCancel_AJobThatIsWorkedOn(t *testing.T) {
	t.Parallel()
	url := broker(t)
	env := []string{"NATS_URL=" + url}
	service := faulttest.StartRecorder(t, "mail")
	service.Hang()
	replica := start(t, url, []*faulttest.Recorder{service})
	replica.until("/readyz", 200)
	wants(t, worker(t, env, "publish", "jobs.mail", "{}", "--id", "mail-1"), codeOK)
	faulttest.Until(t, limit, "the job is called for", func() bool { return service.Count() > 0 })
	wants(t, worker(t, env, "cancel", "mail-1"), codeOK, "cancelled")
	confirmed := time.Now()
	faulttest.Until(t, limit, "the replica let go of the job", func() bool {
		return decode[poolStatus](t, worker(t, env, "status", "-o", "json")).Replicas[0].HeldJobs == 0
	})
	service.Answer(func(faulttest.Request) faulttest.Answer { return faulttest.Answer{} })
	wants(t, worker(t, env, "publish", "jobs.mail", "{}", "--id", "mail-2", "--wait"), codeOK, "succeeded")
	for _, call := range service.Calls() {
		if call.ID == "mail-1" && call.Received.After(confirmed.Add(time.Second)) {
			t.Errorf("called %v after the confirmation", call.Received.Sub(confirmed))
		}
	}
	if n := len(cancelEvents(t, url)); n != 1 {
		t.Errorf("%d events of a cancel, want 1", n)
	}
	if code := replica.stopped(); code != codeOK {
		t.Errorf("exit %d", code)
	}
}

// TestCancel_AJobInItsBackOff: nobody holds it, and it is not called for again.
func TestCancel_AJobInItsBackOff(t *testing.T) {
	t.Parallel()
	url := broker(t)
	env := []string{"NATS_URL=" + url}
	service := faulttest.StartRecorder(t, "mail")
	service.Answer(faulttest.Each(func(a faulttest.Asked) string {
		if a.ID == "mail-1" {
			return "retry"
		}
		return "ok"
	}))
	replica := start(t, url, []*faulttest.Recorder{service}, "ROLLCALL_RETRY_MIN=2s", "ROLLCALL_RETRY_MAX=2s")
	replica.until("/readyz", 200)
	wants(t, worker(t, env, "publish", "jobs.mail", "{}", "--id", "mail-1"), codeOK)
	var found operate.JobReport
	faulttest.Until(t, limit, "the job waits for its next attempt", func() bool {
		found = decode[operate.JobReport](t, worker(t, env, "job", "mail-1", "-o", "json"))
		return found.State == operate.JobRetrying
	})
	if found.Attempt < 2 || found.Reason == "" || found.NextAttempt.IsZero() || len(found.History) < 2 || found.History[1].Services["mail"] != "retry" {
		t.Errorf("between two attempts: %+v", found)
	}
	wants(t, worker(t, env, "cancel", "mail-1"), codeOK, "cancelled")
	confirmed := time.Now()
	if n := waitingJobs(t, url); n != 0 {
		t.Errorf("%d jobs wait, want none", n)
	}
	wants(t, worker(t, env, "publish", "jobs.mail", "{}", "--id", "mail-2", "--delay", "3s", "--wait"), codeOK, "succeeded")
	for _, call := range service.Calls() {
		if call.ID == "mail-1" && call.Received.After(confirmed.Add(time.Second)) {
			t.Errorf("called %v after the confirmation", call.Received.Sub(confirmed))
		}
	}
	if code := replica.stopped(); code != codeOK {
		t.Errorf("exit %d", code)
	}
}

func TestCancel_ADelayedJob(t *testing.T) {
	t.Parallel()
	url := broker(t)
	env := []string{"NATS_URL=" + url}
	service := faulttest.StartRecorder(t, "mail")
	replica := start(t, url, []*faulttest.Recorder{service})
	replica.until("/readyz", 200)
	wants(t, worker(t, env, "publish", "jobs.mail", "{}", "--id", "mail-1", "--delay", "2s"), codeOK)
	report := decode[operate.JobReport](t, worker(t, env, "cancel", "mail-1", "-o", "json"))
	if !strings.HasPrefix(report.UID, "later.") || report.Outcome != jobs.Cancelled {
		t.Errorf("%+v", report)
	}
	event := cancelEvents(t, url)[report.UID]
	if len(event.Data.Jobs) != 1 || event.Data.Jobs[0].Subject != "jobs.mail" || event.Data.Jobs[0].ID != "mail-1" {
		t.Errorf("the event: %+v", event)
	}
	if len(event.Data.Services) != 0 || event.Data.Replica == "" || event.Data.Seal != jobs.SealCancel {
		t.Errorf("the event does not say who cancelled, or that no service was called: %+v", event.Data)
	}
	later, err := streams(t, url).Stream(t.Context(), "LATER")
	if err != nil || later.CachedInfo().State.Msgs != 0 {
		t.Errorf("the cancelled job is still in LATER: %+v, %v", later.CachedInfo().State, err)
	}
	wants(t, worker(t, env, "publish", "jobs.mail", "{}", "--id", "mail-2", "--delay", "3s", "--wait"), codeOK, "succeeded")
	for _, call := range service.Calls() {
		if call.ID == "mail-1" {
			t.Error("the cancelled job was called for")
		}
	}
	if code := replica.stopped(); code != codeOK {
		t.Errorf("exit %d", code)
	}
}

// A broker that crashes may take what is in LATER for new.
func TestCancel_AJobThatWasDelayedHasLeftLater(t *testing.T) {
	t.Parallel()
	env := prepared(t)
	wants(t, worker(t, env, "publish", "jobs.mail", "{}", "--id", "mail-1", "--delay", "1s"), codeOK)
	js := streams(t, strings.TrimPrefix(env[0], "NATS_URL="))
	left := func(name string) uint64 {
		stream, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return stream.CachedInfo().State.Msgs
	}
	faulttest.Until(t, limit, "the job is due", func() bool { return left("JOBS") == 1 })
	wants(t, worker(t, env, "cancel", "mail-1"), codeOK)
	if jobs, later := left("JOBS"), left("LATER"); jobs != 0 || later != 0 {
		t.Errorf("%d jobs and %d messages of delayed ones are left", jobs, later)
	}
}

func TestCancel_EveryOpenMemberOfASet(t *testing.T) {
	t.Parallel()
	url := broker(t)
	env := []string{"NATS_URL=" + url}
	service := faulttest.StartRecorder(t, "mail")
	replica := start(t, url, []*faulttest.Recorder{service})
	replica.until("/readyz", 200)
	wants(t, worker(t, env, "publish", "jobs.row", "{}", "--id", "done", "--set", "import-7", "--set-size", "52", "--wait"), codeOK)
	service.Hang()
	wants(t, worker(t, env, "publish", "jobs.row", "{}", "--id", "row", "--count", "50", "--set", "import-7"), codeOK)
	wants(t, worker(t, env, "publish", "jobs.row", "{}", "--id", "late", "--delay", "1h", "--set", "import-7"), codeOK)
	wants(t, worker(t, env, "publish", "jobs.row", "{}", "--id", "other"), codeOK)
	wants(t, worker(t, env, "set", "cancel", "import-7"), codeUsage, "--yes")
	done := decode[operate.Cancellation](t, worker(t, env, "set", "cancel", "import-7", "--yes", "-o", "json"))
	if done.Cancelled != 51 || done.Ended != 0 {
		t.Errorf("%+v, want 51 cancelled", done)
	}
	report := decode[operate.SetReport](t, worker(t, env, "set", "wait", "import-7", "--timeout", limit.String(), "-o", "json"))
	if report.Outcome != jobs.SetPartial || report.Counts.Cancelled != 51 || report.Counts.Succeeded != 1 {
		t.Errorf("%+v, want 1 succeeded and 51 cancelled", report)
	}
	service.Answer(func(faulttest.Request) faulttest.Answer { return faulttest.Answer{} })
	faulttest.Until(t, limit, "the other job is done", func() bool { return waitingJobs(t, url) == 0 })
	if code := replica.stopped(); code != codeOK {
		t.Errorf("exit %d", code)
	}
	ended := map[string]int{}
	events, err := faulttest.Events(t.Context(), streams(t, url))
	if err != nil {
		t.Fatal(err)
	}
	each(events, func(j *jobs.EventJob) {
		if j.Final() {
			ended[j.UID]++
		}
	})
	for uid, n := range ended {
		if n != 1 {
			t.Errorf("job %s is final in %d events", uid, n)
		}
	}
	if len(ended) != 53 {
		t.Errorf("%d jobs are final, want 53", len(ended))
	}
}

func each(events []history.Event, visit func(*jobs.EventJob)) {
	for i := range events {
		for k := range events[i].Data.Jobs {
			visit(&events[i].Data.Jobs[k])
		}
	}
}

// TestCancel_TheLastMemberEndsItsSet: with no replica at work, nobody else would end it.
func TestCancel_TheLastMemberEndsItsSet(t *testing.T) {
	t.Parallel()
	env := prepared(t)
	for range 2 {
		wants(t, worker(t, env, "publish", "jobs.row", "{}", "--header", "Rollcall-Set:sized", "--header", "Rollcall-Set-Size:2"), codeOK)
	}
	wants(t, worker(t, env, "publish", "jobs.row", "{}", "--header", "Rollcall-Set:closed"), codeOK)
	for _, set := range []string{"sized", "closed"} {
		wants(t, worker(t, env, "set", "cancel", set, "--yes"), codeOK)
	}
	wants(t, worker(t, env, "set", "close", "closed", "--size", "1"), codeOK)
	for _, set := range []string{"sized", "closed"} {
		report := decode[operate.SetReport](t, worker(t, env, "set", "show", set, "-o", "json"))
		if report.Outcome != jobs.SetFailed || report.Counts.Cancelled != report.Size || report.Size == 0 {
			t.Errorf("set %s: %+v, want it ended as failed", set, report)
		}
	}
}
