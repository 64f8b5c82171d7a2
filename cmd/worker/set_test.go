package main

import (
	"fmt"
	"strings"
	"testing"

	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
	"rollcall/internal/operate"
)

func TestSet_FromItsFirstMemberToItsEnd(t *testing.T) {
	t.Parallel()
	url := broker(t)
	env := []string{"NATS_URL=" + url}
	service := faulttest.StartRecorder(t, "mail")
	service.Answer(faulttest.Each(func(a faulttest.Asked) string {
		if a.ID == "bad" {
			return "fail"
		}
		return "ok"
	}))
	replica := start(t, url, []*faulttest.Recorder{service})
	replica.until("/readyz", 200)

	wants(t, worker(t, env, "set", "show", "import-7"), codeNotFound, "import-7", "none of its members has ended")
	wants(t, worker(t, env, "publish", "jobs.row", "{}", "--id", "good", "--header", "Rollcall-Set:import-7", "--wait"), codeOK)
	open := decode[operate.SetReport](t, worker(t, env, "set", "show", "import-7", "-o", "json"))
	if !open.Open() || open.Done != 1 || open.Size != 0 || open.Counts.Succeeded != 1 {
		t.Errorf("after its first member: %+v", open)
	}
	wants(t, worker(t, env, "set", "ls"), codeOK, "import-7", "open", "1 of ?")

	wants(t, worker(t, env, "set", "close", "import-7", "--size", "2"), codeOK, "import-7", "2")
	wants(t, worker(t, env, "publish", "jobs.row", "{}", "--id", "bad", "--header", "Rollcall-Set:import-7", "--wait"), codeFailed)
	ended := worker(t, env, "set", "wait", "import-7", "--timeout", limit.String(), "-o", "json")
	report := decode[operate.SetReport](t, ended)
	if report.Outcome != jobs.SetPartial || report.Size != 2 || len(report.Failed) != 1 || report.Failed[0].ID != "bad" || ended.code != codeFailed {
		t.Errorf("exit %d: %+v", ended.code, report)
	}
	wants(t, worker(t, env, "set", "show", "import-7"), codeOK, "partial", "2 of 2", "bad")
	wants(t, worker(t, env, "set", "ls"), codeOK, "import-7", "partial")
	wants(t, worker(t, env, "set", "close", "import-7", "--size", "3"), codeFailed, "worker: close set import-7: the set has ended")

	wants(t, worker(t, env, "publish", "jobs.row", "{}", "--header", "Rollcall-Set:one", "--header", "Rollcall-Set-Size:1", "--wait"), codeOK)
	wants(t, worker(t, env, "set", "wait", "one", "--timeout", limit.String()), codeOK, "succeeded", "1 of 1")
	if code := replica.stopped(); code != codeOK {
		t.Errorf("the replica ended with %d", code)
	}
}

// TestSet_WaitExitsByTheOutcome: 0 if every member succeeded, else 1, and the outcome is printed.
func TestSet_WaitExitsByTheOutcome(t *testing.T) {
	t.Parallel()
	url := broker(t)
	env := []string{"NATS_URL=" + url}
	service := faulttest.StartRecorder(t, "mail")
	service.Answer(faulttest.Each(func(a faulttest.Asked) string {
		if strings.HasPrefix(a.ID, "bad") {
			return "fail"
		}
		return "ok"
	}))
	replica := start(t, url, []*faulttest.Recorder{service}, "ROLLCALL_SET_MAX_AGE=3s")
	replica.until("/readyz", 200)
	for outcome, members := range map[jobs.SetOutcome][]string{
		jobs.SetSucceeded: {"good", "good"}, jobs.SetPartial: {"good", "bad"}, jobs.SetFailed: {"bad", "bad"}, jobs.SetAbandoned: {"good"},
	} {
		set, code := string(outcome), codeFailed
		if outcome == jobs.SetSucceeded {
			code = codeOK
		}
		for n, id := range members {
			wants(t, worker(t, env, "publish", "jobs.row", "{}", "--id", fmt.Sprint(id, "-", set, n), "--set", set, "--set-size", "2"), codeOK)
		}
		wants(t, worker(t, env, "set", "wait", set, "--timeout", limit.String()), code, "state      "+set)
	}
	if code := replica.stopped(); code != codeOK {
		t.Errorf("the replica ended with %d", code)
	}
}

// stopped ends the replica and returns its exit code.
func (w *running) stopped() int {
	w.t.Helper()
	w.stop()
	return w.wait()
}

func TestSet_WaitShowsHowFarItIsAndGivesUp(t *testing.T) {
	t.Parallel()
	url := broker(t)
	env := []string{"NATS_URL=" + url}
	wants(t, worker(t, env, "setup"), codeOK)
	wants(t, worker(t, env, "set", "close", "nightly", "--size", "3"), codeOK)
	wants(t, worker(t, env, "set", "close", "nightly", "--size", "2"), codeOK, "said to have 3 members", "size  3")
	got := worker(t, env, "set", "wait", "nightly", "--timeout", "50ms")
	wants(t, got, codeFailed, "nightly: 0 of 3", "has not ended within 50ms")
	wants(t, worker(t, env, "set", "wait", "nightly", "--timeout", "1ms"), codeFailed, "has not ended within 1ms")
	wants(t, worker(t, env, "set", "cancel", "nightly", "--yes"), codeOK, "cancelled     0")
}

func TestSet_WithoutAnyThereIsOneSentence(t *testing.T) {
	t.Parallel()
	env := []string{"NATS_URL=" + broker(t)}
	wants(t, worker(t, env, "setup"), codeOK)
	got := worker(t, env, "set", "ls")
	if got.code != codeOK || got.stderr != "No sets of pool default.\n" || got.stdout != "" {
		t.Errorf("exit %d, stdout %q, stderr %q", got.code, got.stdout, got.stderr)
	}
	if got = worker(t, env, "set", "ls", "-o", "json"); strings.TrimSpace(got.stdout) != "[]" {
		t.Errorf("as JSON: %q", got.stdout)
	}
	wants(t, worker(t, env, "set", "cancel", "mistyped", "--yes"), codeNotFound, "mistyped")
}

func TestSet_BadArgumentsAreFaultsOfUsage(t *testing.T) {
	t.Parallel()
	env := []string{"NATS_URL=" + broker(t)}
	for _, args := range []string{"close a", "close a --size 0", "wait a --timeout -1s", "ls --limit 0", "show a.b", "close a.b --size 1"} {
		got := worker(t, env, append([]string{"set"}, strings.Fields(args)...)...)
		if got.code != codeUsage || !strings.Contains(got.stderr, "worker: ") {
			t.Errorf("set %s: exit %d, %q; want %d and what is wrong", args, got.code, got.stderr, codeUsage)
		}
	}
}
