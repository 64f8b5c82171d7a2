package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
	"rollcall/internal/operate"
)

// TestCommandsWorkWithAStreamOfThePoolsOwn: whatever reads or writes DONE takes the pool's own
// stream with ROLLCALL_DONE=own, and people hear of it on the same plain subjects.
func TestCommandsWorkWithAStreamOfThePoolsOwn(t *testing.T) {
	t.Parallel()
	url := broker(t)
	env := []string{"NATS_URL=" + url, "ROLLCALL_POOL=mail", "ROLLCALL_DONE=own"}
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	heard := map[string]*nats.Subscription{}
	for _, subject := range []string{"batches.mail.succeeded.*", "batches.mail.failed.*", "sets.mail.*.import-7"} {
		if heard[subject], err = nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
	}
	service := faulttest.StartRecorder(t, "mail")
	service.Answer(faulttest.Each(func(a faulttest.Asked) string {
		if a.ID == "bad" {
			return "fail"
		}
		return "ok"
	}))
	wants(t, worker(t, env, "setup", "--archive", "30d"), codeOK, "stream DONE_mail", "stream HISTORY_mail")
	replica := start(t, url, []*faulttest.Recorder{service}, env[1:]...)
	replica.until("/readyz", http.StatusOK)

	wants(t, worker(t, env, "publish", "jobs.row", "{}", "--id", "good", "--set", "import-7", "--wait"), codeOK, "succeeded")
	wants(t, worker(t, env, "publish", "jobs.row", "{}", "--id", "bad", "--set", "import-7", "--wait"), codeFailed, "failed")
	wants(t, worker(t, env, "set", "close", "import-7", "--size", "2"), codeOK)
	wants(t, worker(t, env, "set", "wait", "import-7", "--timeout", limit.String()), codeFailed, "partial")
	wants(t, worker(t, env, "set", "ls"), codeOK, "import-7", "partial")
	for _, since := range []string{"--all", "--since=1h"} {
		wants(t, worker(t, env, "events", since, "--follow=false"), codeOK, "succeeded", "failed")
	}
	wants(t, worker(t, env, "job", "good"), codeOK, "succeeded")
	wants(t, worker(t, env, "dead", "ls"), codeOK, "jobs.row", "the service failed the job")
	wants(t, worker(t, env, "dead", "replay", "1"), codeOK)

	wants(t, worker(t, env, "publish", "jobs.row", "{}", "--id", "late", "--delay", "1h"), codeOK)
	report := decode[operate.JobReport](t, worker(t, env, "cancel", "late", "-o", "json"))
	if report.Outcome != jobs.Cancelled {
		t.Errorf("cancelled: %+v", report)
	}
	for subject, sub := range heard {
		if m, err := sub.NextMsg(limit); err != nil || !strings.HasPrefix(m.Subject, subject[:strings.LastIndex(subject, ".*")]) {
			t.Errorf("nothing was heard on %s: %v", subject, err)
		}
	}
	faulttest.Until(t, limit, "the cancel was heard", func() bool {
		m, err := heard["batches.mail.failed.*"].NextMsg(time.Second)
		return err == nil && strings.Contains(string(m.Data), `"cancelled"`)
	})
	status := worker(t, env, "status", "-o", "json")
	wants(t, status, codeOK, "DONE_mail")
	if strings.Contains(status.stdout, `"DONE"`) {
		t.Errorf("status speaks of DONE: %s", status.stdout)
	}
	if code, page := replica.page("/api/v1/status"); code != http.StatusOK || !strings.Contains(page, `"DONE_mail"`) {
		t.Errorf("the page's status is %d: %s", code, page)
	}
	if code := replica.stopped(); code != codeOK {
		t.Errorf("the replica ended with %d", code)
	}
	wants(t, worker(t, env, "setup"), codeOK, "as it should be")
}
