package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rollcall/internal/demo"
	"rollcall/internal/devkit"
	"rollcall/internal/devkit/devkittest"
	"rollcall/internal/history"
	"rollcall/internal/operate"
	"rollcall/internal/table"
)

func TestTheDemoHoldsItsPromises(t *testing.T) {
	t.Parallel()
	const n = 300
	r := worker(t, nil, "demo", "--jobs", "300", "-o", "json")
	s := decode[summary](t, r)
	if r.code != codeOK || r.stderr != "" {
		t.Errorf("exit %d, stderr %q; want 0 and no talk beside JSON", r.code, r.stderr)
	}
	expected, putOff := 0, 0
	flaky := devkit.NewFlaky(demo.FlakySeed)
	for i := range n {
		id := operate.MessageID(demoJob(i))
		if flaky.Refuses(id) {
			expected++
		}
		if flaky.PutsOff(id) > 0 {
			putOff++
		}
	}
	if s.Jobs != n || s.Succeeded+s.Failed != n || s.Expired+s.Invalid != 0 || len(s.Violations) != 0 {
		t.Errorf("got %+v", s)
	}
	if s.Failed != expected || s.ExpectedFailed != expected || s.DeadLetters != expected {
		t.Errorf("failed %d, expected %d, dead letters %d; the flaky service refuses %d", s.Failed, s.ExpectedFailed, s.DeadLetters, expected)
	}
	if s.Retried < putOff || s.Batches < n/96 || s.Calls < 3*n {
		t.Errorf("retried %d of at least %d, %d batches, %d calls", s.Retried, putOff, s.Batches, s.Calls)
	}
	if s.Seconds <= 0 || s.JobsPerSec <= 0 || s.P50 <= 0 || s.P99 < s.P50 {
		t.Errorf("figures: %+v", s)
	}
}

func TestTheDemoTellsHowFarItIsAndKeepsItsStreams(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "kept")
	r := worker(t, nil, "demo", "--jobs", "60", "--rate", "30", "--keep", dir)
	if r.code != codeOK {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	for _, want := range []string{"of 60", "dev --keep " + dir} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("stderr lacks %q: %s", want, r.stderr)
		}
	}
	for _, want := range []string{"jobs ", "dead letters ", "every job final in exactly one event"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("stdout lacks %q: %s", want, r.stdout)
		}
	}
	server := devkittest.Start(t, devkit.Options{Dir: dir})
	events := worker(t, []string{"NATS_URL=" + server.URL()}, "events", "--all", "--follow=false", "-o", "jsonl")
	if n := strings.Count(events.stdout, "rollcall.batch.settled.v1"); events.code != codeOK || n == 0 {
		t.Errorf("%d events are kept: exit %d: %s", n, events.code, events.stderr)
	}
}

// TestABrokenPromiseFailsTheDemo plants violations between what was read back and the report.
func TestABrokenPromiseFailsTheDemo(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	c := &cli{stdout: &stdout, stderr: &stderr, output: table.Table}
	d, err := newTrial(c, demoFlags{jobs: 40})
	if err != nil {
		t.Fatal(err)
	}
	h, err := d.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.report(h); err != nil {
		t.Fatalf("without a planted violation: %v\n%s", err, stderr.String())
	}
	for name, plant := range map[string]func(*history.History){
		"an event twice":       func(h *history.History) { h.Events = append(h.Events, h.Events[0]) },
		"a lost event":         func(h *history.History) { h.Events = h.Events[1:] },
		"an unknown job":       func(h *history.History) { h.Accepted = h.Accepted[1:] },
		"a stray dead letter":  func(h *history.History) { h.DeadLetters = append(h.DeadLetters, h.Accepted[0].UID) },
		"a job left in stream": func(*history.History) { d.left = 1 },
	} {
		broken := *h
		d.left = 0
		plant(&broken)
		stderr.Reset()
		if code := exitCode(d.report(&broken)); code != codeFailed || stderr.Len() == 0 {
			t.Errorf("%s: exit %d, stderr %q; want 1 and the violations", name, code, stderr.String())
		}
	}
}

func TestTheDemoRefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"no jobs":       {"--jobs", "0"},
		"negative rate": {"--rate", "-1"},
		"no rate":       {"--rate", "NaN"},
		"used store":    {"--keep", full},
		"no directory":  {"--keep", filepath.Join(full, "x")},
	} {
		if r := worker(t, nil, append([]string{"demo"}, args...)...); r.code != codeUsage {
			t.Errorf("%s: exit %d: %s", name, r.code, r.stderr)
		}
	}
}

func TestTheDemoCanBeStopped(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	stderr := &tripwire{on: "published", do: func() { cancel(errSignal) }}
	var stdout bytes.Buffer
	code := run(ctx, []string{"demo", "--jobs", "100000", "--rate", "50"}, nil, strings.NewReader(""), &stdout, stderr)
	if code != codeFailed || stdout.Len() != 0 || !strings.Contains(stderr.String(), errSignal.Error()) {
		t.Errorf("exit %d, stdout %q, stderr %q", code, stdout.String(), stderr.String())
	}
}

func TestTheDemoDoesNotWaitForEverForAJob(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	d, err := newTrial(&cli{stderr: &stderr}, demoFlags{jobs: 2})
	if err != nil {
		t.Fatal(err)
	}
	d.patience = time.Millisecond
	d.tally.end(1)
	if err := d.awaitEnd(t.Context(), nil); err != nil || !strings.Contains(stderr.String(), "nothing has become final") || d.ended.IsZero() {
		t.Errorf("got %v, %q; want the run to end, for the check to say what is missing", err, stderr.String())
	}
}

func TestPercentiles(t *testing.T) {
	t.Parallel()
	var waits []time.Duration
	for n := 100; n > 0; n-- {
		waits = append(waits, time.Duration(n)*time.Millisecond)
	}
	for p, want := range map[int]float64{50: 50, 99: 99, 100: 100} {
		if got := percentile(waits, p); got != want {
			t.Errorf("p%d: got %v, want %v", p, got, want)
		}
	}
	if got := percentile(nil, 99); got != 0 {
		t.Errorf("of nothing: got %v", got)
	}
	if got := percentile([]time.Duration{time.Second}, 1); got != 1000 {
		t.Errorf("of one: got %v", got)
	}
}
