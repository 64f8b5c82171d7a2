//go:build linux

package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"rollcall/bench/lab"
)

func newSession(t *testing.T, talk *bytes.Buffer) *session {
	t.Helper()
	return &session{
		worker: os.Args[0], dir: t.TempDir(), jobs: 400, runs: 2, timeout: time.Minute, talk: talk,
	}
}

func TestCasesAreMeasuredInTurn(t *testing.T) {
	t.Parallel()
	var talk bytes.Buffer
	s := newSession(t, &talk)
	spec := lab.Spec{Payload: 128, Batch: 20, InFlight: 2, Linger: time.Millisecond, Replicas: 1, Services: 1}
	w := workload{name: "W9", scale: 0.5, cases: []benchCase{{label: "one", who: floor, spec: spec}, {label: "other", who: simple, spec: spec}},
		bars: []bar{{text: "alike", of: "other", against: "one", metric: jobsPerSecond, limit: 0.01, atLeast: true}}}
	var r report
	err := s.with(t.Context(), func() error {
		var err error
		r, err = s.measure(t.Context(), w)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var turns []string
	for line := range strings.Lines(talk.String()) {
		turns = append(turns, strings.Join(strings.Fields(line)[:3], " "))
	}
	if got, want := strings.Join(turns, ", "), "W9 1/2 one, W9 1/2 other, W9 2/2 one, W9 2/2 other"; got != want {
		t.Errorf("the turns were %s; want %s", got, want)
	}
	for _, c := range r.Cases {
		if len(c.Runs) != 2 || c.Median.Jobs != 200 || c.Ratio <= 0 || c.CPURatio <= 0 {
			t.Errorf("%s: %d runs of %d jobs, ratios %g and %g", c.Label, len(c.Runs), c.Median.Jobs, c.Ratio, c.CPURatio)
		}
	}
	if len(r.Bars) != 1 || !r.Bars[0].Met {
		t.Errorf("bars: %v", r.Bars)
	}
}

func TestASessionEndsWithItsContext(t *testing.T) {
	t.Parallel()
	var talk bytes.Buffer
	s := newSession(t, &talk)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.with(ctx, func() error { _, err := s.measure(ctx, workloads()[0]); return err })
	if err == nil {
		t.Error("a cancelled session measured something")
	}
	left, err := os.ReadDir(s.dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestWhatWasMeasuredIsPrintedWhereTheRestCannotBe(t *testing.T) {
	t.Parallel()
	var talk, out bytes.Buffer
	s := newSession(t, &talk)
	s.worker, s.runs = "/nowhere/worker", 1
	spec := lab.Spec{Payload: 128, Batch: 20, InFlight: 2, Linger: time.Millisecond, Replicas: 1, Services: 1}
	err := s.report(t.Context(), &out, "table", []workload{
		{name: "W8", scale: 0.5, cases: []benchCase{{label: "one", who: floor, spec: spec}}},
		{name: "W9", scale: 0.5, cases: []benchCase{{label: "other", spec: spec}}},
	})
	if err == nil || !strings.Contains(err.Error(), "measure W9") {
		t.Errorf("error %v, want one that names W9", err)
	}
	if !strings.HasPrefix(out.String(), "W8 ") || strings.Contains(out.String(), "W9") {
		t.Errorf("printed:\n%s\nwant the table of W8", &out)
	}
}
