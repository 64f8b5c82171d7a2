package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"rollcall/internal/bus"
	"rollcall/internal/devkit"
	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
	"rollcall/internal/operate"
	"rollcall/internal/table"
)

// final publishes a job under this id and waits until it is final.
func final(t *testing.T, env []string, id string) {
	t.Helper()
	if got := worker(t, env, "publish", "jobs.mail", `{"to":"ann"}`, "--id", id, "--wait", "--header", "X-Tenant: blue"); got.code != codeOK && got.code != codeFailed {
		t.Fatalf("publish %s: exit %d, %s", id, got.code, got.stderr)
	}
}

// wants fails unless the run ended with this code and stdout holds every text.
func wants(t *testing.T, got result, code int, texts ...string) {
	t.Helper()
	if got.code != code {
		t.Errorf("exit %d, want %d; stderr %q", got.code, code, got.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(got.stdout+got.stderr, text) {
			t.Errorf("the output lacks %q: %q %q", text, got.stdout, got.stderr)
		}
	}
}

func TestStatusShowsPoolReplicasAndServices(t *testing.T) {
	t.Parallel()
	env := answering(t, byID())
	final(t, env, "a-ok")
	final(t, env, "b-fail")
	got := decode[poolStatus](t, worker(t, env, "status", "-o", "json"))
	if got.State == nil || got.State.DeadLetters != 1 || got.State.Waiting != 0 || len(got.State.Streams) != 4 {
		t.Errorf("state: %+v", got.State)
	}
	if len(got.Replicas) != 1 || got.Replicas[0].Phase != "working" || !got.Replicas[0].Ready || got.Replicas[0].Services[0].Breaker != "closed" {
		t.Fatalf("replicas: %+v", got.Replicas)
	}
	table := worker(t, env, "status")
	wants(t, table, codeOK, "dead letters       1", "REPLICA", got.Replicas[0].Replica, "SERVICE", "only", "closed", "intake             open")
	if strings.Count(worker(t, env, "status", "-o", "jsonl").stdout, "\n") != 1 {
		t.Error("-o jsonl: want one line")
	}
}

// Where there is no pool, every command that looks for one says so in the same way.
func TestCommandsWithoutStreamsNameTheSetup(t *testing.T) {
	t.Parallel()
	env := []string{"NATS_URL=" + broker(t)}
	for _, args := range []string{
		"status", "job x", "cancel x", "erase x --yes", "pause --for 1m", "resume", "events --all --follow=false",
		"dead ls", "dead show 1", "dead replay 1", "dead discard 1 --yes",
		"set ls", "set show x", "set wait x", "set close x --size 2", "set cancel x --yes",
		"schedule ls", "schedule set x jobs.x --every 5m", "schedule run x", "schedule rm x",
	} {
		wants(t, worker(t, env, strings.Fields(args)...), codeNotFound, "worker setup")
	}
}

func TestStatusWithoutReplicasSaysSo(t *testing.T) {
	t.Parallel()
	env := []string{"NATS_URL=" + broker(t)}
	wants(t, worker(t, env, "status"), codeNotFound, "worker setup")
	streams(t, strings.TrimPrefix(env[0], "NATS_URL="))
	wants(t, worker(t, env, "status"), codeOK, "No replica answered", "oldest job         none")
	wants(t, worker(t, []string{"NATS_URL=nats://127.0.0.1:1"}, "status"), codeUnreachable)
	wants(t, worker(t, env, "status", "--watch", "--every", "1ms"), codeUsage, "--every")
}

func TestStatusWatchGoesOnUntilToldToStop(t *testing.T) {
	t.Parallel()
	env := []string{"NATS_URL=" + broker(t)}
	streams(t, strings.TrimPrefix(env[0], "NATS_URL="))
	ctx, stop := context.WithCancel(t.Context())
	var stdout, stderr shared
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"status", "--watch", "--every", "100ms", "-o", "jsonl"}, env, strings.NewReader(""), &stdout, &stderr)
	}()
	faulttest.Until(t, limit, "status is printed three times", func() bool { return strings.Count(stdout.String(), "\n") >= 3 })
	stop()
	if code := <-ended; code != codeOK {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
	for line := range strings.Lines(stdout.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %q", line)
		}
	}
}

// The pool takes a moment to answer, and a person must not look at an empty screen meanwhile.
func TestStatusWatchLeavesTheLastPictureUntilTheNextIsWhole(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var screen bytes.Buffer
	c, drawn := &cli{stdout: &screen, output: table.Table}, 0
	err := c.watch(ctx, time.Millisecond, true, func(_ context.Context, c *cli) error {
		if last := fmt.Sprintf("picture %d\n", drawn); drawn > 0 && !strings.HasSuffix(screen.String(), last) {
			t.Errorf("while the pool is asked the screen ends with %q, want %q", screen.String(), last)
		}
		if drawn++; drawn == 3 {
			stop()
		}
		_, err := fmt.Fprintf(c.stdout, "picture %d\n", drawn)
		return err
	})
	if err != nil || drawn != 3 {
		t.Errorf("%d pictures, %v", drawn, err)
	}
}

func TestJobIsFoundAndWhatNeverWasExitsFour(t *testing.T) {
	t.Parallel()
	env := answering(t, byID())
	final(t, env, "a-ok")
	final(t, env, "b-fail")
	got := decode[operate.JobReport](t, worker(t, env, "job", "b-fail", "-o", "json"))
	if got.State != operate.JobFinal || got.Outcome != "failed" || got.DeadLetter == 0 || got.BatchID == "" {
		t.Errorf("b-fail: %+v", got)
	}
	wants(t, worker(t, env, "job", got.UID), codeOK, "id           b-fail", "state        final", "outcome      failed", "reason       as told", "dead letter  1")
	wants(t, worker(t, env, "job", "a-ok"), codeOK, "outcome    succeeded")
	wants(t, worker(t, env, "job", "nobody"), codeNotFound, "not found")
	wants(t, worker(t, env, "job"), codeUsage)
	wants(t, worker(t, append(env, "ROLLCALL_SOURCE=core"), "job", "a-ok"), codeFailed, "ROLLCALL_SOURCE=core")
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	env := answering(t, byID())
	for _, args := range [][]string{
		{"pause"},
		{"pause", "--for", "0s"},
		{"pause", "--for", "soon"},
		{"pause", "--for", "1h", "--until", "2999-01-01T00:00:00Z"},
		{"pause", "--until", "2001-01-01T00:00:00Z"},
	} {
		wants(t, worker(t, env, args...), codeUsage)
	}
	state := func() *poolStatus {
		s := decode[poolStatus](t, worker(t, env, "status", "-o", "json"))
		return &s
	}
	wants(t, worker(t, env, "pause", "--for", "1h", "--dry-run"), codeOK, "would be paused")
	if !state().State.PausedUntil.IsZero() {
		t.Error("a dry run paused the pool")
	}
	wants(t, worker(t, env, "pause", "--for", "1h"), codeOK, "paused", "until")
	if until := time.Until(state().State.PausedUntil); until < 50*time.Minute || until > 70*time.Minute {
		t.Errorf("paused for %v, want 1h", until)
	}
	wants(t, worker(t, env, "publish", "jobs.mail", "{}", "--id", "c-ok"), codeOK)
	wants(t, worker(t, env, "job", "c-ok"), codeOK, "state      waiting")
	wants(t, worker(t, env, "resume", "--dry-run"), codeOK, "would be resumed")
	wants(t, worker(t, env, "job", "c-ok"), codeOK, "state      waiting")
	wants(t, worker(t, env, "resume"), codeOK, "resumed")
	faulttest.Until(t, limit, "the job is done after the pause", func() bool {
		return strings.Contains(worker(t, env, "job", "c-ok").stdout, "succeeded")
	})
}

func TestDrainEndsOneReplicaInGoodOrder(t *testing.T) {
	t.Parallel()
	url := broker(t)
	js := streams(t, url)
	env := []string{"NATS_URL=" + url}
	release := make(chan struct{})
	slow := faulttest.StartRecorder(t, "billing")
	slow.Answer(func(faulttest.Request) faulttest.Answer {
		<-release
		return faulttest.Answer{}
	})
	first := start(t, url, []*faulttest.Recorder{slow})
	first.until("/readyz", http.StatusOK)
	name, ok := first.logged("ready")["replica"].(string)
	if !ok {
		t.Fatal("the log does not name the replica")
	}
	wants(t, worker(t, env, "drain", "nobody"), codeNotFound, "worker status")
	wants(t, worker(t, env, "drain"), codeUsage)
	wants(t, worker(t, env, "drain", name, "--dry-run"), codeOK, "would be draining")
	load := faulttest.NewLoad(t, js, "JOBS", "jobs.test")
	load.Publish(20, limit)
	faulttest.Until(t, limit, "the service is called", func() bool { return slow.Count() > 0 })
	wants(t, worker(t, env, "drain", name), codeOK, name)
	faulttest.Until(t, limit, "status shows the drain", func() bool {
		return strings.Contains(worker(t, env, "status").stdout, "draining")
	})
	second := start(t, url, []*faulttest.Recorder{slow})
	second.until("/readyz", http.StatusOK)
	close(release)
	if code := first.wait(); code != codeOK {
		t.Errorf("the drained replica: exit %d", code)
	}
	load.Publish(20, limit)
	finished := 0
	for _, e := range judge(t, js, load, slow).Events {
		if e.Data.Replica == name {
			finished += e.Data.Counts.Succeeded
		}
	}
	if finished == 0 {
		t.Error("the drained replica finished nothing of what it had begun")
	}
	if got := decode[poolStatus](t, worker(t, env, "status", "-o", "json")).Replicas; len(got) != 1 || got[0].Replica == name {
		t.Errorf("left: %+v; want the other replica alone", got)
	}
	second.stop()
	if code := second.wait(); code != codeOK {
		t.Errorf("the other replica: exit %d", code)
	}
}

// newLetter is a dead letter of pool default as another process may have stored it.
func newLetter(uid string) *nats.Msg {
	return &nats.Msg{
		Subject: bus.DeadSubject("default", "jobs.mail"), Data: []byte("body"),
		Header: nats.Header{"Rollcall-Subject": {"jobs.mail"}, "Rollcall-Uid": {uid}, "Rollcall-Outcome": {"failed"}},
	}
}

// graveyard returns a pool whose service fails jobs until mended is called, with letters of
// jobs of these ids.
func graveyard(t *testing.T, ids ...string) (env []string, mended func()) {
	t.Helper()
	well := make(chan struct{})
	env = answering(t, func(_ context.Context, call *devkit.Call) devkit.Answer {
		a := devkit.Answer{}
		for _, j := range call.Jobs {
			status := "fail"
			select {
			case <-well:
				status = "ok"
			default:
			}
			a.Results = append(a.Results, devkit.Result{ID: j.ID, Status: status, Error: "card\x1b[2J declined"})
		}
		return a
	})
	for _, id := range ids {
		final(t, env, id)
	}
	return env, func() { close(well) }
}

func TestDeadLettersAreListedAndShown(t *testing.T) {
	t.Parallel()
	env, _ := graveyard(t, "one", "two")
	list := worker(t, env, "dead", "ls")
	wants(t, list, codeOK, "NUMBER", "failed", "jobs.mail", "only", "declined")
	if strings.Contains(list.stdout, "\x1b") {
		t.Error("a service's text commands the terminal")
	}
	all := decode[[]bus.Letter](t, worker(t, env, "dead", "ls", "-o", "json"))
	if len(all) != 2 || all[0].Seq != 1 || all[1].Attempts != 1 || all[0].Service != "only" {
		t.Errorf("letters: %+v", all)
	}
	for args, want := range map[string]int{
		"--outcome failed": 2, "--outcome expired": 0, "--service only": 2, "--service other": 0, "--reason CARD": 2, "--reason fraud": 0,
		"--set import-7": 0, "--subject jobs.*": 2, "--subject jobs.sms": 0, "--newer-than 1h": 2, "--older-than 1h": 0, "--limit 1": 1,
	} {
		got := worker(t, env, append([]string{"dead", "ls", "-o", "jsonl"}, strings.Fields(args)...)...)
		if n := strings.Count(got.stdout, "\n"); n != want || got.code != codeOK {
			t.Errorf("dead ls %s: %d letters, exit %d, want %d", args, n, got.code, want)
		}
	}
	wants(t, worker(t, env, "dead", "show", "1"), codeOK, "header X-Tenant", "blue", `{"to":"ann"}`, "attempts")
	full := decode[fullLetter](t, worker(t, env, "dead", "show", "2", "-o", "json"))
	if full.Body != `{"to":"ann"}` || full.Header["X-Tenant"][0] != "blue" || full.Encoding != "" {
		t.Errorf("letter 2: %+v", full)
	}
	for name := range full.Header {
		if strings.HasPrefix(name, "Nats-") {
			t.Errorf("letter 2 shows %s, which is no header of the job", name)
		}
	}
	wants(t, worker(t, env, "dead", "show", "99"), codeNotFound)
	for _, args := range [][]string{
		{"dead", "show", "first"},
		{"dead", "ls", "--outcome", "sad"},
		{"dead", "ls", "--older-than", "yore"},
		{"dead", "ls", "--limit", "-1"},
		{"dead", "ls", "--set", "import 7"},
		{"dead", "bury"},
	} {
		wants(t, worker(t, env, args...), codeUsage)
	}
	list = worker(t, env, "dead", "list")
	wants(t, list, codeUsage)
	if n := strings.Count(list.stderr, "'worker dead ls'"); n != 1 {
		t.Errorf("dead list: %d hints at ls:\n%s", n, list.stderr)
	}
}

func TestReplayedLettersBecomeNewJobs(t *testing.T) {
	t.Parallel()
	env, mended := graveyard(t, "one", "two", "three")
	old := decode[[]bus.Letter](t, worker(t, env, "dead", "ls", "-o", "json"))
	dry := decode[[]letterChange](t, worker(t, env, "dead", "replay", "--all", "--dry-run", "-o", "json"))
	if len(dry) != 3 || dry[0].Result != "would be replayed" || dry[0].Job != "" {
		t.Errorf("dry run: %+v", dry)
	}
	mended()
	one := decode[[]letterChange](t, worker(t, env, "dead", "replay", "2", "-o", "json"))
	if len(one) != 1 || one[0].Result != "replayed" || one[0].Job == "" || one[0].Job == old[1].UID {
		t.Errorf("one: %+v", one)
	}
	wants(t, worker(t, env, "dead", "replay", "--service", "only", "--rate", "200"), codeOK, "NUMBER", "replayed")
	wants(t, worker(t, env, "dead", "ls"), codeOK, "No dead letters")
	faulttest.Until(t, limit, "the new job is done", func() bool {
		return strings.Contains(worker(t, env, "job", one[0].Job).stdout, "succeeded")
	})
	// The old job keeps its end.
	wants(t, worker(t, env, "job", old[1].UID), codeOK, "outcome    failed")
	wants(t, worker(t, env, "dead", "replay", "2"), codeNotFound)
}

func TestWhatCannotBeReplayedIsKeptAndToldOf(t *testing.T) {
	t.Parallel()
	url := broker(t)
	js := streams(t, url)
	env := []string{"NATS_URL=" + url}
	for i, header := range []string{"Rollcall-Truncated", "X-Other"} {
		m := newLetter(fmt.Sprintf("epoch.%d", i+1))
		m.Header.Set(header, "true")
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	wants(t, worker(t, env, "dead", "replay", "--all", "--dry-run"), codeFailed, "1 of 2 dead letters would not be replayed")
	got := worker(t, env, "dead", "replay", "--all", "-o", "json")
	wants(t, got, codeFailed, "1 of 2 dead letters were not replayed")
	changes := decode[[]letterChange](t, got)
	if len(changes) != 2 || changes[0].Result != "kept" || !strings.Contains(changes[0].Error, "cut") || changes[1].Result != "replayed" {
		t.Errorf("got %+v", changes)
	}
}

func TestDiscardAsksBeforeItDestroys(t *testing.T) {
	t.Parallel()
	env, _ := graveyard(t, "one", "two", "three")
	for _, args := range [][]string{
		{"dead", "discard"},
		{"dead", "discard", "--all"}, // without --yes
		{"dead", "discard", "--outcome", "failed"},
		{"dead", "discard", "--all", "--outcome", "failed", "--yes"},
		{"dead", "discard", "1", "--all", "--yes"},
		{"dead", "discard", "0"},
		{"dead", "discard", "1", "--rate", "-1"},
		{"dead", "discard", "1", "--rate", "NaN"},
		{"dead", "replay"},
	} {
		wants(t, worker(t, env, args...), codeUsage)
	}
	wants(t, worker(t, env, "dead", "discard", "--all", "--dry-run"), codeOK, "would be discarded")
	if n := len(decode[[]bus.Letter](t, worker(t, env, "dead", "ls", "-o", "json"))); n != 3 {
		t.Fatalf("%d letters are left before anything was discarded", n)
	}
	wants(t, worker(t, env, "dead", "discard", "2"), codeOK, "discarded")
	wants(t, worker(t, env, "dead", "discard", "2"), codeNotFound)
	wants(t, worker(t, env, "dead", "discard", "1", "2"), codeFailed, "1 of 2")
	got := worker(t, env, "dead", "discard", "--all", "--yes", "-o", "jsonl")
	if !regexp.MustCompile(`^\{"seq":3,"result":"discarded"\}\n$`).MatchString(got.stdout) || got.code != codeOK {
		t.Errorf("exit %d: %q", got.code, got.stdout)
	}
}

func TestNoProgressBarOutsideOfATerminal(t *testing.T) {
	t.Parallel()
	env, _ := graveyard(t, "one", "two", "three")
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"dead", "discard", "--all", "--yes", "-o", "json"}, env, strings.NewReader(""), &stdout, &stderr); code != codeOK {
		t.Fatalf("exit %d: %s", code, stderr.String())
	}
	if stderr.Len() > 0 || !json.Valid(stdout.Bytes()) {
		t.Errorf("stderr %q, stdout %q", stderr.String(), stdout.String())
	}
}

func TestStatusShowsThatReplicasDisagree(t *testing.T) {
	t.Parallel()
	url := broker(t)
	streams(t, url)
	service := faulttest.StartRecorder(t, "billing")
	one := start(t, url, []*faulttest.Recorder{service})
	two := start(t, url, []*faulttest.Recorder{service}, "ROLLCALL_MAX_ATTEMPTS=3")
	env := []string{"NATS_URL=" + url}
	faulttest.Until(t, limit, "both replicas answer", func() bool {
		return len(decode[poolStatus](t, worker(t, env, "status", "-o", "json")).Replicas) == 2
	})
	wants(t, worker(t, env, "status"), codeOK, "The replicas have different settings", "ROLLCALL_MAX_ATTEMPTS")
	s := decode[poolStatus](t, worker(t, env, "status", "-o", "json"))
	if len(s.Mixed) != 1 || s.Mixed[0].Setting != "ROLLCALL_MAX_ATTEMPTS" || len(s.Mixed[0].Values) != 2 {
		t.Errorf("the mix is %+v", s.Mixed)
	}
	for _, w := range []*running{one, two} {
		faulttest.Until(t, limit, "each replica warns in its log", func() bool {
			return strings.Contains(w.log.String(), "ROLLCALL_MAX_ATTEMPTS: ") && strings.Contains(w.log.String(), "have different settings")
		})
	}
}

func TestAPictureFitsTheTerminal(t *testing.T) {
	t.Parallel()
	got := crop("one line that is long\ntwo\nthree\nfour\nfive\n", 8, 4)
	if want := "one lin…\ntwo\n… 3 mor…\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := crop("one\ntwo\n", 8, 4); got != "one\ntwo\n" {
		t.Errorf("what fits is changed to %q", got)
	}
}

func TestStatusTellsJobsInHandFromThoseThatWaitForARetry(t *testing.T) {
	t.Parallel()
	for inFlight, want := range map[int][2]int{2000: {12, 1988}, 3: {3, 0}} { // 3 were counted a moment before the replicas took more
		s := poolStatus{State: &jobs.PoolState{InFlight: inFlight}, Replicas: []jobs.ReplicaState{{HeldJobs: 10}, {HeldJobs: 2}}}
		if s.separate(); s.Held != want[0] || s.WaitingForRetry != want[1] {
			t.Errorf("of %d: %d are held and %d wait, want %v", inFlight, s.Held, s.WaitingForRetry, want)
		}
	}
}

func TestDoctorLooksAtNATSWithoutServices(t *testing.T) {
	t.Parallel()
	wants(t, worker(t, []string{"NATS_URL=" + broker(t)}, "doctor"), codeFailed, "connection", "permissions", "Set ROLLCALL_SERVICES")
}
