package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"rollcall/internal/demo"
	"rollcall/internal/devkit"
	"rollcall/internal/jobs"
	"rollcall/internal/operate"
)

// answering runs a broker and one replica of a pool whose only service behaves so, and returns
// the environment for both.
func answering(t *testing.T, b devkit.Behaviour) []string {
	t.Helper()
	service, err := devkit.Serve(t.Context(), demo.AnyPort, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := service.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	env := []string{
		"NATS_URL=" + broker(t), "ROLLCALL_SERVICES=only=" + service.URL(), "ROLLCALL_HTTP_ADDR=" + demo.AnyPort,
		"ROLLCALL_RETRY_MIN=10ms", "ROLLCALL_RETRY_MAX=20ms",
	}
	background(t, env, `"ready"`, "run")
	return env
}

// byID answers each job with what follows the last dash of its id, the first time with
// `retry` if its id begins with "again".
func byID() devkit.Behaviour {
	var mu sync.Mutex
	seen := map[string]bool{}
	return func(_ context.Context, call *devkit.Call) devkit.Answer {
		mu.Lock()
		defer mu.Unlock()
		var a devkit.Answer
		for _, job := range call.Jobs {
			status := job.ID[strings.LastIndex(job.ID, "-")+1:]
			if strings.HasPrefix(job.ID, "again") && !seen[job.ID] {
				status, seen[job.ID] = "retry", true
			}
			a.Results = append(a.Results, devkit.Result{ID: job.ID, Status: status, Error: "as told"})
		}
		return a
	}
}

func TestWaitPrintsTheOutcomeOfEachJob(t *testing.T) {
	t.Parallel()
	env := answering(t, byID())
	ok := decode[operate.JobOutcome](t, worker(t, env, "publish", "jobs.x", "1", "--id", "a-ok", "--wait", "-o", "jsonl"))
	if ok.ID != "a-ok" || ok.Outcome != "succeeded" || ok.Attempt != 1 || ok.BatchID == "" || ok.Services["only"] != "ok" {
		t.Errorf("got %+v", ok)
	}
	again := decode[operate.JobOutcome](t, worker(t, env, "publish", "jobs.x", "1", "--id", "again-ok", "--wait", "-o", "jsonl"))
	if again.Outcome != "succeeded" || again.Attempt != 2 {
		t.Errorf("after a retry: got %+v, want the final outcome of the second attempt", again)
	}
	r := worker(t, env, "publish", "jobs.x", "1", "--id", "b-fail", "--wait")
	if r.code != codeFailed || !strings.Contains(r.stdout, "failed") || !strings.Contains(r.stderr, "1 of 1 jobs did not succeed") {
		t.Errorf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	late := worker(t, env, "publish", "jobs.x", "1", "--id", "c-ok", "--deadline", "2020-01-01T00:00:00Z", "--wait", "-o", "json")
	if got := decode[[]operate.JobOutcome](t, late); late.code != codeFailed || len(got) != 1 || got[0].Outcome != "expired" {
		t.Errorf("a deadline gone by: exit %d, %+v", late.code, got)
	}
}

func TestWaitKnowsTheOutcomeOfAJobThatEndedBefore(t *testing.T) {
	t.Parallel()
	env := answering(t, byID())
	args := []string{"publish", "jobs.x", "1", "--id", "a-ok", "--wait", "-o", "jsonl"}
	first, again := decode[operate.JobOutcome](t, worker(t, env, args...)), decode[operate.JobOutcome](t, worker(t, env, args...))
	if again.UID != first.UID || again.BatchID != first.BatchID {
		t.Errorf("got %+v, want that of the first publication: %+v", again, first)
	}
}

func TestWaitKnowsADelayedJobByItsID(t *testing.T) {
	t.Parallel()
	env := answering(t, byID())
	got := decode[operate.JobOutcome](t, worker(t, env, "publish", "jobs.x", "1", "--id", "late-ok", "--delay", "300ms", "--wait", "-o", "jsonl"))
	if got.ID != "late-ok" || got.Subject != "jobs.x" || got.Outcome != "succeeded" {
		t.Errorf("got %+v", got)
	}
}

func TestWaitPrintsEveryOneOfManyJobs(t *testing.T) {
	t.Parallel()
	env := answering(t, devkit.Fast())
	const n = 2000
	var in strings.Builder
	for i := range n {
		fmt.Fprintln(&in, i)
	}
	r := piped(t, env, in.String(), "publish", "jobs.x", "--wait", "--timeout", "2m", "-o", "json")
	uids := map[string]bool{}
	for _, o := range decode[[]operate.JobOutcome](t, r) {
		uids[o.UID] = o.Outcome == jobs.Succeeded
	}
	if r.code != codeOK || len(uids) != n {
		t.Errorf("exit %d, %d outcomes of %d: %s", r.code, len(uids), n, r.stderr)
	}
}

func TestWaitEndsWithItsTimeout(t *testing.T) {
	t.Parallel()
	env := prepared(t) // nobody works
	r := worker(t, env, "publish", "jobs.x", "1", "--wait", "--timeout", "50ms", "-o", "json")
	if r.code != codeFailed || r.stdout != "[]\n" || !strings.Contains(r.stderr, "1 of 1 jobs have no outcome yet") {
		t.Errorf("exit %d: %q %s", r.code, r.stdout, r.stderr)
	}
}

func TestEventsPrintsStoredOnesAndFollows(t *testing.T) {
	t.Parallel()
	env := answering(t, byID())
	publish := func(id string) {
		t.Helper()
		if r := worker(t, env, "publish", "jobs.x", "1", "--id", id, "--wait"); r.stdout == "" {
			t.Fatal(r.stderr)
		}
	}
	publish("a-ok")
	publish("b-fail")

	table := worker(t, env, "events", "--all", "--follow=false")
	if lines := strings.Split(strings.TrimSpace(table.stdout), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], "TIME") || !strings.Contains(lines[2], "failed") {
		t.Errorf("table: %s", table.stdout)
	}
	failed := worker(t, env, "events", "--since", "1h", "--outcome", "failed", "--count", "1", "-o", "jsonl")
	if e, err := jobs.DecodeEvent([]byte(failed.stdout)); err != nil || e.Subject != "failed" || e.Data.Jobs[0].ID != "b-fail" {
		t.Errorf("got %s, %v", failed.stdout, err)
	}
	if none := worker(t, env, "events", "--since", time.Now().Add(time.Hour).Format(time.RFC3339), "--follow=false", "-o", "json"); none.stdout != "[]\n" {
		t.Errorf("since a time to come: %s", none.stdout)
	}

	// Events heard live, until the reader is told to stop.
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan int, 1)
	stdout := &tripwire{on: "\n", do: func() { cancel(errSignal) }}
	go func() {
		ended <- run(ctx, []string{"events", "-o", "jsonl"}, env, strings.NewReader(""), stdout, new(bytes.Buffer))
	}()
	for n := 0; ctx.Err() == nil; n++ {
		publish(fmt.Sprintf("live%d-ok", n)) // until the listener is there to hear one
	}
	if code := <-ended; code != codeOK {
		t.Errorf("exit %d, want 0: Ctrl-C is how to end it", code)
	}
	if e, err := jobs.DecodeEvent([]byte(strings.SplitN(stdout.String(), "\n", 2)[0])); err != nil || e.Subject != "succeeded" {
		t.Errorf("heard %s, %v", stdout, err)
	}
}

func TestWithoutTheStreamOfEventsTheCommandsSayWhatMendsIt(t *testing.T) {
	t.Parallel()
	env := prepared(t)
	nc, err := nats.Connect(strings.TrimPrefix(env[0], "NATS_URL="))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Request("$JS.API.STREAM.DELETE.DONE", nil, time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"events", "--all"}, {"publish", "jobs.x", "1", "--wait"}} {
		if r := worker(t, env, args...); r.code != codeNotFound || !strings.Contains(r.stderr, "worker setup") {
			t.Errorf("%v: exit %d: %s", args, r.code, r.stderr)
		}
	}
}

func TestEventsRefusesWhatItCannotMean(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--outcome", "ok"},
		{"--count", "-1"},
		{"--all", "--since", "1h"},
		{"--since", "yesterday"},
		{"--since", "-1h"},
		{"--follow=false"},
	} {
		if r := worker(t, nil, append([]string{"events"}, args...)...); r.code != codeUsage {
			t.Errorf("%v: exit %d: %s", args, r.code, r.stderr)
		}
	}
}
