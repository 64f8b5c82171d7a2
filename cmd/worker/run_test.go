package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/devkit"
	"rollcall/internal/devkit/devkittest"
	"rollcall/internal/faulttest"
	"rollcall/internal/history"
	"rollcall/internal/jobs"
)

// streams creates the streams and the consumer through the setup command.
func streams(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	if got := worker(t, []string{"NATS_URL=" + url}, "setup"); got.code != codeOK {
		t.Fatal(got.stderr)
	}
	return faulttest.JetStream(t, faulttest.Connect(t, url))
}

// judge waits until nothing is left to do and fails the test for every broken promise.
func judge(t *testing.T, js jetstream.JetStream, load *faulttest.Load, services ...*faulttest.Recorder) history.History {
	t.Helper()
	faulttest.WaitRest(t, js, "JOBS", "default", limit)
	h := history.History{Accepted: load.Accepted(), AtRest: true}
	for _, s := range services {
		h.Calls = append(h.Calls, s.Calls()...)
	}
	var err error
	if h.Events, err = faulttest.Events(t.Context(), js); err != nil {
		t.Fatal(err)
	}
	if h.DeadLetters, err = faulttest.DeadLetters(t.Context(), js); err != nil {
		t.Fatal(err)
	}
	for _, v := range h.Violations() {
		t.Error(v)
	}
	return h
}

func TestEachJobEndsInOneEventAndAStopIsClean(t *testing.T) {
	t.Parallel()
	const total = 500
	url := broker(t)
	js := streams(t, url)
	billing, search := faulttest.StartRecorder(t, "billing"), faulttest.StartRecorder(t, "search")
	search.Answer(func(r faulttest.Request) faulttest.Answer {
		if r.Number == 1 {
			return faulttest.Answer{Status: http.StatusInternalServerError}
		}
		return faulttest.Answer{}
	})
	load := faulttest.NewLoad(t, js, "JOBS", "jobs.test")
	w := start(t, url, []*faulttest.Recorder{billing, search})
	load.Publish(total, limit)
	h := judge(t, js, load, billing, search)

	w.stop()
	if code := w.wait(); code != codeOK {
		t.Errorf("exit %d, want 0", code)
	}
	for line := range strings.Lines(w.log.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("the log has a line that is not JSON: %q", line)
		}
	}
	if got := w.stdout.String(); got != "" {
		t.Errorf("stdout got %q; the log belongs on stderr", got)
	}
	succeeded := 0
	for _, e := range h.Events {
		succeeded += e.Data.Counts.Succeeded
	}
	if succeeded != total {
		t.Errorf("%d jobs succeeded, want %d", succeeded, total)
	}
}

func TestReadinessFollowsTheBrokerAndLivenessDoesNot(t *testing.T) {
	t.Parallel()
	port, dir := faulttest.FreePort(t), t.TempDir()
	up := func() *devkit.Server {
		return devkittest.Start(t, devkit.Options{Dir: dir, Port: port})
	}
	w := start(t, fmt.Sprintf("nats://127.0.0.1:%d", port), []*faulttest.Recorder{faulttest.StartRecorder(t, "billing")})
	w.until("/livez", http.StatusOK)
	if code, body := w.page("/readyz?verbose"); code != http.StatusServiceUnavailable || !strings.Contains(body, "connecting") {
		t.Errorf("before the broker is there: %d %q", code, body)
	}
	first := up()
	w.until("/readyz", http.StatusOK)
	if _, body := w.page("/readyz?verbose"); !strings.Contains(body, "[+]consumer") || !strings.Contains(body, "service billing: breaker closed") {
		t.Errorf("ready: %q", body)
	}
	first.Shutdown()
	w.until("/readyz", http.StatusServiceUnavailable)
	if code, _ := w.page("/livez"); code != http.StatusOK {
		t.Errorf("livez %d while the broker is away; a restart would not help", code)
	}
	up()
	w.until("/readyz", http.StatusOK)
	w.stop()
	if code := w.wait(); code != codeOK {
		t.Errorf("exit %d", code)
	}
}

func TestDrainDeadlineExitsThreeAndLosesNothing(t *testing.T) {
	t.Parallel()
	url := broker(t)
	js := streams(t, url)
	stuck := faulttest.StartRecorder(t, "billing")
	stuck.Hang()
	load := faulttest.NewLoad(t, js, "JOBS", "jobs.test")
	w := start(t, url, []*faulttest.Recorder{stuck}, "ROLLCALL_DRAIN_TIMEOUT=300ms")
	load.Publish(20, limit)
	faulttest.Until(t, limit, "the service is called", func() bool { return stuck.Count() > 0 })
	w.stop()
	if code := w.wait(); code != codeDrainDeadline {
		t.Errorf("exit %d, want %d", code, codeDrainDeadline)
	}
	w.logged("draining")

	stuck.Answer(func(faulttest.Request) faulttest.Answer { return faulttest.Answer{} })
	next := start(t, url, []*faulttest.Recorder{stuck}, "ROLLCALL_LOG_LEVEL=debug")
	judge(t, js, load, stuck)
	next.stop()
	if code := next.wait(); code != codeOK {
		t.Errorf("the next worker: exit %d", code)
	}
	if strings.Contains(next.log.String(), "suspect job runs alone") {
		t.Error("jobs that a drain gave back are taken for jobs that crash workers")
	}
}

func TestNotReadyWhileDraining(t *testing.T) {
	t.Parallel()
	url := broker(t)
	js := streams(t, url)
	slow := faulttest.StartRecorder(t, "billing")
	release := make(chan struct{})
	slow.Answer(func(faulttest.Request) faulttest.Answer {
		<-release
		return faulttest.Answer{}
	})
	load := faulttest.NewLoad(t, js, "JOBS", "jobs.test")
	w := start(t, url, []*faulttest.Recorder{slow})
	load.Publish(1, limit)
	faulttest.Until(t, limit, "the service is called", func() bool { return slow.Count() > 0 })
	w.until("/readyz", http.StatusOK)
	w.stop()
	w.until("/readyz", http.StatusServiceUnavailable)
	if code, body := w.page("/readyz?verbose"); code != http.StatusServiceUnavailable || !strings.Contains(body, "draining") {
		t.Errorf("while draining: %d %q", code, body)
	}
	if code, _ := w.page("/livez"); code != http.StatusOK {
		t.Errorf("livez %d while draining: a restart would cut the drain short", code)
	}
	close(release)
	if code := w.wait(); code != codeOK {
		t.Errorf("exit %d", code)
	}
	judge(t, js, load, slow)
}

// guarded starts a server that wants a password.
func guarded(t *testing.T, port int, dir, password string) *server.Server {
	t.Helper()
	return faulttest.StartServer(t, server.Options{
		Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, Username: "worker", Password: password,
	})
}

// nats.go gives a connection up when its login is refused twice: a worker whose credentials
// were revoked must not live on doing nothing, not even for a call that nobody can settle.
func TestRevokedLoginEndsTheWorkerWithTheReason(t *testing.T) {
	t.Parallel()
	const old, renewed = "hunter2canary", "other"
	port, dir := faulttest.FreePort(t), t.TempDir()
	first := guarded(t, port, dir, old)
	stuck := faulttest.StartRecorder(t, "billing")
	stuck.Hang()
	url := fmt.Sprintf("nats://127.0.0.1:%d", port)
	w := start(t, url, []*faulttest.Recorder{stuck}, "NATS_USER=worker", "NATS_PASSWORD="+old,
		// Nothing but the closed connection may end the call.
		"ROLLCALL_DRAIN_TIMEOUT=1h", "ROLLCALL_SVC_BILLING_TIMEOUT=1h", "ROLLCALL_ACK_WAIT=1h", "ROLLCALL_ZOMBIE_HORIZON=1h")
	w.until("/readyz", http.StatusOK)
	js := faulttest.JetStream(t, faulttest.Connect(t, url, nats.UserInfo("worker", old)))
	faulttest.NewLoad(t, js, "JOBS", "jobs.test").Publish(1, limit)
	faulttest.Until(t, limit, "the service is called", func() bool { return stuck.Count() > 0 })
	first.Shutdown()
	first.WaitForShutdown()
	guarded(t, port, dir, renewed)
	if code := w.wait(); code != codeUnreachable {
		t.Errorf("exit %d, want %d", code, codeUnreachable)
	}
	log := w.log.String()
	if !strings.Contains(log, "Authorization Violation") && !strings.Contains(log, "authorization violation") {
		t.Errorf("the log does not tell the reason:\n%s", log)
	}
	if strings.Contains(log, old) {
		t.Errorf("the password is in the log:\n%s", log)
	}
}

func TestTakenHealthPortIsAFailure(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	w := start(t, broker(t), []*faulttest.Recorder{faulttest.StartRecorder(t, "billing")}, "ROLLCALL_HTTP_ADDR="+taken.Addr().String())
	if code := w.wait(); code != codeFailed || !strings.Contains(w.log.String(), "ROLLCALL_HTTP_ADDR") {
		t.Errorf("exit %d, log %q; want 1 and the setting", code, w.log.String())
	}
}

func TestMissingStreamsThatMayNotBeCreatedExitFour(t *testing.T) {
	t.Parallel()
	w := start(t, broker(t), []*faulttest.Recorder{faulttest.StartRecorder(t, "billing")}, "ROLLCALL_ENSURE=false")
	if code := w.wait(); code != codeNotFound || !strings.Contains(w.log.String(), "worker setup") {
		t.Errorf("exit %d, log %q; want 4 and the command that fixes it", code, w.log.String())
	}
}

func TestAStopBeforeTheBrokerAnswersIsClean(t *testing.T) {
	t.Parallel()
	w := start(t, "nats://127.0.0.1:1", []*faulttest.Recorder{faulttest.StartRecorder(t, "billing")})
	w.logged("serving pages")
	w.stop()
	if code := w.wait(); code != codeOK {
		t.Errorf("exit %d, want 0", code)
	}
}

// What a job or a service carries, and what guards the way, must not reach the log.
func TestNoPayloadAndNoSecretInTheLog(t *testing.T) {
	t.Parallel()
	const canary = "hunter2canary"
	url := broker(t)
	js := streams(t, url)
	billing := faulttest.StartRecorder(t, "billing")
	billing.Answer(func(r faulttest.Request) faulttest.Answer {
		if r.Number%2 == 1 {
			return faulttest.Answer{Body: `{"` + canary}
		}
		return faulttest.Answer{Body: `{"results":[{"id":"` + r.Jobs[0].ID + `","status":"ok","data":"` + canary + `"}]}`}
	})
	load := faulttest.NewLoad(t, js, "JOBS", "jobs.test")
	load.Body(func(int) []byte { return []byte(`"` + canary + `"`) })
	w := start(t, strings.Replace(url, "nats://", "nats://ann:"+canary+"@", 1), []*faulttest.Recorder{billing},
		"ROLLCALL_SVC_BILLING_TOKEN="+canary, "ROLLCALL_BATCH_SIZE=1")
	load.Publish(5, limit)
	judge(t, js, load, billing)
	w.stop()
	w.wait()
	log := w.log.String()
	if strings.Contains(log, canary) {
		t.Errorf("the canary is in the log:\n%s", log)
	}
	if !strings.Contains(log, "batch settled") {
		t.Error("nothing was logged at debug; this test would not see a leak")
	}
}

func TestCoreModeAnswersTheProducer(t *testing.T) {
	t.Parallel()
	url := broker(t)
	billing, search := faulttest.StartRecorder(t, "billing"), faulttest.StartRecorder(t, "search")
	search.Answer(func(r faulttest.Request) faulttest.Answer {
		return faulttest.Answer{Body: `{"results":[{"id":"` + r.Jobs[0].ID + `","status":"fail","error":"no such order"}]}`}
	})
	w := start(t, url, []*faulttest.Recorder{billing, search}, "ROLLCALL_SOURCE=core", "ROLLCALL_SUBJECTS=orders.*", "ROLLCALL_BATCH_SIZE=1")
	w.until("/readyz", http.StatusOK)
	nc := faulttest.Connect(t, url)
	events, err := nc.SubscribeSync("batches.default.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	answer, err := nc.Request("orders.new", []byte(`{"n":1}`), limit)
	if err != nil {
		t.Fatal(err)
	}
	var entry jobs.EventJob
	if err := json.Unmarshal(answer.Data, &entry); err != nil {
		t.Fatal(err)
	}
	if entry.Outcome != "failed" || entry.Services["billing"] != "ok" || entry.Services["search"] != "fail" || entry.Reason != "no such order" {
		t.Errorf("the reply is %s", answer.Data)
	}
	event, err := events.NextMsg(limit)
	if err != nil || !strings.HasPrefix(event.Subject, "batches.default.failed.") {
		t.Errorf("event on %q: %v", event.Subject, err)
	}
	w.stop()
	if code := w.wait(); code != codeOK {
		t.Errorf("exit %d", code)
	}
	js := faulttest.JetStream(t, nc)
	account, err := js.AccountInfo(t.Context())
	if err != nil || account.Streams != 0 {
		t.Errorf("core mode made streams: %+v, %v", account, err)
	}
}

// TestTheWorkerSaysWhenAStopMayCutOffCalls: 25 s are shorter than three tries of 10 s; who has fitted
// them to each other reads nothing of it.
func TestTheWorkerSaysWhenAStopMayCutOffCalls(t *testing.T) {
	t.Parallel()
	const warning = "a stop may cut off calls that take all their tries: their jobs are called for again elsewhere"
	billing := []*faulttest.Recorder{faulttest.StartRecorder(t, "billing")}
	url := broker(t)
	defaults := start(t, url, billing)
	said := defaults.logged(warning)
	if said["ROLLCALL_DRAIN_TIMEOUT"] != "25s" || said["longest_call"] != "32s" || !strings.Contains(fmt.Sprint(said["calls"]), "ROLLCALL_SVC_BILLING_TIMEOUT") {
		t.Errorf("the worker says %v", said)
	}
	fits := start(t, url, billing, "ROLLCALL_SVC_BILLING_TIMEOUT=5s")
	fits.logged("ready") // comes after the warning
	if strings.Contains(fits.log.String(), warning) {
		t.Error("the worker warns though 17 s fit into 25 s")
	}
}
