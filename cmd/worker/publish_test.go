package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
	"rollcall/internal/operate"
)

// prepared starts a broker with the streams of a pool and returns the environment for it.
func prepared(t *testing.T) []string {
	t.Helper()
	env := []string{"NATS_URL=" + broker(t)}
	if r := worker(t, env, "setup"); r.code != codeOK {
		t.Fatal(r.stderr)
	}
	return env
}

// stored returns the messages of the stream JOBS.
func stored(t *testing.T, env []string) []*jetstream.RawStreamMsg {
	t.Helper()
	nc, err := nats.Connect(strings.TrimPrefix(env[0], "NATS_URL="))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "JOBS")
	if err != nil {
		t.Fatal(err)
	}
	var all []*jetstream.RawStreamMsg
	for seq := uint64(1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
		m, err := stream.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

// piped runs the program with something on standard input.
func piped(t *testing.T, env []string, stdin string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, env, strings.NewReader(stdin), &stdout, &stderr)
	return result{code: code, stdout: stdout.String(), stderr: stderr.String()}
}

func TestPublishStoresTheArgumentAsAJob(t *testing.T) {
	t.Parallel()
	env := prepared(t)
	r := worker(t, env, "publish", "jobs.mail", `{"to":"ann"}`, "--id", "m-1", "--header", "X:y", "-o", "jsonl")
	got := decode[receipt](t, r)
	if _, err := jobs.ParseUID(got.UID); err != nil || r.code != codeOK || got.ID != "m-1" || got.Subject != "jobs.mail" || got.Duplicate {
		t.Errorf("exit %d, %+v, %v", r.code, got, err)
	}
	all := stored(t, env)
	if len(all) != 1 || string(all[0].Data) != `{"to":"ann"}` || all[0].Header.Get("X") != "y" || all[0].Header.Get("Nats-Msg-Id") != "m-1" {
		t.Errorf("the stream holds %+v", all)
	}
}

func TestPublishingTheSameIDAgainIsADuplicate(t *testing.T) {
	t.Parallel()
	env := prepared(t)
	first := decode[receipt](t, worker(t, env, "publish", "jobs.x", "1", "--id", "a", "-o", "jsonl"))
	again := decode[receipt](t, worker(t, env, "publish", "jobs.x", "1", "--id", "a", "-o", "jsonl"))
	if !again.Duplicate || again.UID != first.UID {
		t.Errorf("got %+v after %+v", again, first)
	}
}

func TestPublishReadsAFileByteForByte(t *testing.T) {
	t.Parallel()
	env := prepared(t)
	body := []byte("\x00\xff\r\n{")
	file := filepath.Join(t.TempDir(), "job")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, r := range []result{
		worker(t, env, "publish", "jobs.x", "--file", file, "--count", "2"),
		piped(t, env, string(body), "publish", "jobs.x", "--file", "-"),
	} {
		if r.code != codeOK {
			t.Fatal(r.stderr)
		}
	}
	all := stored(t, env)
	if len(all) != 3 {
		t.Fatalf("the stream holds %d jobs, want 3", len(all))
	}
	for _, m := range all {
		if !bytes.Equal(m.Data, body) {
			t.Errorf("got %q, want %q", m.Data, body)
		}
	}
}

func TestPublishMakesAJobOfEachLine(t *testing.T) {
	t.Parallel()
	env := prepared(t)
	r := piped(t, env, "{\"n\":1}\n{\"n\":2}\n", "publish", "jobs.x", "--id", "in", "-o", "json")
	if got := decode[[]receipt](t, r); len(got) != 2 || got[1].ID != "in-2" {
		t.Errorf("got %+v", got)
	}
	if all := stored(t, env); len(all) != 2 || string(all[1].Data) != `{"n":2}` {
		t.Errorf("the stream holds %d jobs", len(all))
	}
}

func TestPublishTellsHowFarItCame(t *testing.T) {
	t.Parallel()
	env := prepared(t)
	r := piped(t, env, "{}\n{}\nnope\n{}\n", "publish", "jobs.x")
	if r.code != codeFailed || !strings.Contains(r.stderr, "after 2 confirmed jobs") || !strings.Contains(r.stderr, "line 3") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	if n := strings.Count(r.stdout, "jobs.x"); n != 2 {
		t.Errorf("%d receipts, want 2:\n%s", n, r.stdout)
	}
}

// TestAFaultInTheMiddleHidesNoOutcome of what was published before it.
func TestAFaultInTheMiddleHidesNoOutcome(t *testing.T) {
	t.Parallel()
	url := broker(t)
	start(t, url, []*faulttest.Recorder{faulttest.StartRecorder(t, "billing")}).until("/readyz", http.StatusOK)
	r := piped(t, []string{"NATS_URL=" + url}, "{}\n{}\nnope\n{}\n", "publish", "jobs.x", "--wait", "--timeout", "1m", "-o", "jsonl")
	if r.code != codeFailed || !strings.Contains(r.stderr, "after 2 confirmed jobs") || !strings.Contains(r.stderr, "line 3") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	if n := strings.Count(r.stdout, `"succeeded"`); n != 2 {
		t.Errorf("%d outcomes, want 2:\n%s", n, r.stdout)
	}
}

// TestAnEmptyFlagIsNoFlagThatIsNotThere: a script may have no value for it.
func TestAnEmptyFlagIsNoFlagThatIsNotThere(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"publish", "jobs.x", "1", "--unique", ""}, {"publish", "jobs.x", "1", "--delay", "1s", "--debounce", ""},
		{"publish", "jobs.x", "1", "--set="}, {"dead", "discard", "--outcome", "failed", "--set", "", "--yes"},
	} {
		if r := worker(t, []string{"NATS_URL=nats://127.0.0.1:1"}, args...); r.code != codeUsage || !strings.Contains(r.stderr, "is empty") {
			t.Errorf("%q: exit %d: %s", args, r.code, r.stderr)
		}
	}
}

func TestPublishRefusesWhatItCannotMean(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"two bodies":          {"jobs.x", "1", "--file", "f"},
		"no such file":        {"jobs.x", "--file", filepath.Join(t.TempDir(), "none")},
		"repeated lines":      {"jobs.x", "--count", "2"},
		"count of nothing":    {"jobs.x", "1", "--count", "0"},
		"backwards":           {"jobs.x", "1", "--rate", "-1"},
		"no rate":             {"jobs.x", "1", "--rate", "NaN"},
		"wildcard":            {"jobs.*", "1"},
		"surplus argument":    {"jobs.x", "1", "2"},
		"no subject":          {},
		"unreadable deadline": {"jobs.x", "1", "--deadline", "noon"},
		"no time to wait":     {"jobs.x", "1", "--wait", "--timeout", "-3s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// No broker: what is wrong with the arguments is said without one.
			if r := worker(t, []string{"NATS_URL=nats://127.0.0.1:1"}, append([]string{"publish"}, args...)...); r.code != codeUsage {
				t.Errorf("exit %d: %s", r.code, r.stderr)
			}
		})
	}
}

func TestPublishWithoutAnyJobIsAMistake(t *testing.T) {
	t.Parallel()
	if r := worker(t, prepared(t), "publish", "jobs.x"); r.code != codeUsage || !strings.Contains(r.stderr, "held no job") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}

func TestPublishNamesWhatMendsIt(t *testing.T) {
	t.Parallel()
	env := prepared(t)
	if r := worker(t, env, "publish", "mail.x", "1"); r.code != codeNotFound || !strings.Contains(r.stderr, "jobs.>") {
		t.Errorf("outside of the stream: exit %d: %s", r.code, r.stderr)
	}
	if r := worker(t, env, "publish", "mail.x", "1", "--delay", "1h"); r.code != codeUsage || !strings.Contains(r.stderr, "jobs.>") {
		t.Errorf("delayed, outside of the stream: exit %d: %s", r.code, r.stderr)
	}
	if r := worker(t, env, "publish", "done.x", "1"); r.code != codeNotFound || !strings.Contains(r.stderr, "jobs.>") {
		t.Errorf("in another stream: exit %d: %s", r.code, r.stderr)
	}
	if r := worker(t, env, "publish", "jobs.x", strings.Repeat("a", 2<<20)); r.code != codeFailed || !strings.Contains(r.stderr, "max_payload") {
		t.Errorf("too large: exit %d: %s", r.code, r.stderr)
	}
	bare := []string{"NATS_URL=" + broker(t)}
	if r := worker(t, bare, "publish", "jobs.x", "1"); r.code != codeNotFound || !strings.Contains(r.stderr, "worker setup") {
		t.Errorf("no stream: exit %d: %s", r.code, r.stderr)
	}
}

func TestPublishWithoutABrokerExitsFive(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"publish", "jobs.x", "1"}, {"events"}} {
		if r := worker(t, []string{"NATS_URL=nats://127.0.0.1:1"}, args...); r.code != codeUnreachable {
			t.Errorf("%v: exit %d: %s", args, r.code, r.stderr)
		}
	}
}

func TestADelayedJobComesWhenItIsDue(t *testing.T) {
	t.Parallel()
	env := prepared(t)
	begun := time.Now()
	r := worker(t, env, "publish", "jobs.x", `{"n":1}`, "--delay", "1s", "--id", "d", "--header", "X:y")
	if r.code != codeOK {
		t.Fatal(r.stderr)
	}
	nc, err := nats.Connect(strings.TrimPrefix(env[0], "NATS_URL="))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.Consumer(t.Context(), "JOBS", "default")
	if err != nil {
		t.Fatal(err)
	}
	m, err := consumer.Next(jetstream.FetchMaxWait(30*time.Second), jetstream.FetchPriorityGroup("replicas"))
	if err != nil {
		t.Fatal(err)
	}
	if waited := time.Since(begun); waited < time.Second {
		t.Errorf("it came after %s", waited)
	}
	job := jobs.Decode(jobs.Delivery{Subject: m.Subject(), Header: m.Headers(), Data: m.Data(), Ref: jobs.Ref{Epoch: "e", Seq: 2}}, 0)
	if job.Subject != "jobs.x" || job.ID != "d" || string(job.Body) != `{"n":1}` || m.Headers().Get("X") != "y" {
		t.Errorf("got %s, id %q, %q, %v", job.Subject, job.ID, job.Body, m.Headers())
	}
	if err := m.Ack(); err != nil {
		t.Error(err)
	}
}

// quotes runs a worker in core mode on quotes.* whose service succeeds unless the body says fail.
func quotes(t *testing.T) (env []string) {
	t.Helper()
	url := broker(t)
	billing := faulttest.StartRecorder(t, "billing")
	billing.Answer(func(r faulttest.Request) faulttest.Answer {
		if strings.Contains(r.Jobs[0].ID, "bad") {
			return faulttest.Answer{Body: `{"results":[{"id":"` + r.Jobs[0].ID + `","status":"fail","error":"\u001b[31mno such quote"}]}`}
		}
		return faulttest.Answer{}
	})
	core := []string{"ROLLCALL_SOURCE=core", "ROLLCALL_SUBJECTS=quotes.*", "ROLLCALL_BATCH_SIZE=1"}
	start(t, url, []*faulttest.Recorder{billing}, core...).until("/readyz", http.StatusOK)
	return append(core, "NATS_URL="+url)
}

func TestCoreModePublishAsksAndPrintsTheAnswer(t *testing.T) {
	t.Parallel()
	env := quotes(t)
	r := worker(t, env, "publish", "quotes.request", "{}", "--wait", "--id", "q", "--count", "3", "-o", "json")
	var got []operate.JobOutcome
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || r.code != codeOK || len(got) != 3 {
		t.Fatalf("exit %d, %v: %s%s", r.code, err, r.stdout, r.stderr)
	}
	for _, o := range got {
		if o.Outcome != jobs.Succeeded || !strings.HasPrefix(o.UID, "core.") {
			t.Errorf("got %+v", o)
		}
	}
	r = worker(t, env, "publish", "quotes.request", "{}", "--wait", "--id", "bad")
	if r.code != codeFailed || !strings.Contains(r.stdout, "no such quote") || strings.Contains(r.stdout, "\x1b") {
		t.Errorf("a job that fails: exit %d, %q %q", r.code, r.stdout, r.stderr)
	}
	if r = worker(t, env, "publish", "quotes.request", "{}"); r.code != codeOK || !strings.Contains(r.stdout, "quotes.request") {
		t.Errorf("without --wait: exit %d, %q %q", r.code, r.stdout, r.stderr)
	}
}

func TestCoreModePublishSaysThatNobodyListens(t *testing.T) {
	t.Parallel()
	env := []string{"ROLLCALL_SOURCE=core", "NATS_URL=" + broker(t)}
	for _, more := range [][]string{nil, {"--wait"}} {
		if r := worker(t, env, append([]string{"publish", "quotes.request", "{}"}, more...)...); r.code != codeNotFound || !strings.Contains(r.stderr, "no worker subscribes") {
			t.Errorf("%v: exit %d, %q %q", more, r.code, r.stdout, r.stderr)
		}
	}
	if r := worker(t, env, "publish", "jobs.x", "{}", "--delay", "1h"); r.code != codeUsage || !strings.Contains(r.stderr, "--delay") {
		t.Errorf("a delay: exit %d, %q", r.code, r.stderr)
	}
}

func TestCoreModeListsTheDeadLettersThatAreThere(t *testing.T) {
	t.Parallel()
	env, _ := graveyard(t, "a-fail", "b-fail")
	r := worker(t, append(env, "ROLLCALL_SOURCE=core"), "dead", "ls")
	if r.code != codeOK || strings.Count(r.stdout, "\n") != 3 {
		t.Errorf("exit %d, %q %q; want a head and two letters", r.code, r.stdout, r.stderr)
	}
	if r := worker(t, []string{"NATS_URL=" + broker(t), "ROLLCALL_SOURCE=core"}, "dead", "ls"); r.code != codeNotFound || !strings.Contains(r.stderr, "DEAD") {
		t.Errorf("without a stream of dead letters: exit %d, %q", r.code, r.stderr)
	}
}
