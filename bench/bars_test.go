package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"rollcall/bench/lab"
)

// TestMain lets the test binary be its own child, as the program is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == childCommand {
		main()
	}
	goleak.VerifyTestMain(m)
}

func cases(figures map[string][]float64) []caseReport {
	var list []caseReport
	for label, values := range figures {
		c := caseReport{Label: label}
		for _, v := range values {
			c.Runs = append(c.Runs, lab.Result{JobsPerSecond: v, P50: v})
		}
		list = append(list, c)
	}
	return list
}

func TestABarComparesRunByRun(t *testing.T) {
	t.Parallel()
	// The machine halved its speed after the first run: the ratio of the medians would be
	// 50/100, though the pool was as fast as the floor in every pair but one.
	measured := cases(map[string][]float64{"floor": {200, 100, 100}, "pool": {200, 50, 100}})
	for _, tc := range []struct {
		name string
		bar  bar
		want float64
		met  bool
	}{
		{"ratio met", bar{of: "pool", against: "floor", metric: jobsPerSecond, limit: 0.9, atLeast: true}, 1, true},
		{"ratio missed", bar{of: "pool", against: "floor", metric: jobsPerSecond, limit: 1.1, atLeast: true}, 1, false},
		{"ratio at most", bar{of: "pool", against: "floor", metric: jobsPerSecond, limit: 0.9}, 1, false},
		{"difference", bar{of: "pool", against: "floor", metric: p50, difference: true, limit: 5}, 0, true},
		{"absolute", bar{of: "pool", metric: jobsPerSecond, limit: 100}, 100, true},
		{"against itself", bar{of: "floor", against: "floor", metric: jobsPerSecond, limit: 1, atLeast: true}, 1, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if v := tc.bar.judge(measured); v.Value != tc.want || v.Met != tc.met {
				t.Errorf("got %g, met %t; want %g, %t", v.Value, v.Met, tc.want, tc.met)
			}
		})
	}
}

func TestMediansAreTakenFigureByFigure(t *testing.T) {
	t.Parallel()
	run := func(n float64) lab.Result {
		return lab.Result{Jobs: 7, Seconds: n, JobsPerSecond: 10 - n, WorkerCPU: n, BrokerCPU: n, ServicesCPU: n, PeakRSS: int64(n),
			BrokerRSS: int64(n), Batches: int(n), Commits: int(n), P50: n, P99: n, IdleCPU: n}
	}
	want := run(2)
	if diff := cmp.Diff(want, medians([]lab.Result{run(3), run(1), run(2)})); diff != "" {
		t.Errorf("medians (-want +got):\n%s", diff)
	}
	if got := medians(nil); got != (lab.Result{}) {
		t.Errorf("medians of nothing = %+v", got)
	}
}

func TestEveryBarFindsItsCases(t *testing.T) {
	t.Parallel()
	for _, w := range workloads() {
		labels := map[string]bool{"": true}
		for _, c := range w.cases {
			if labels[c.label] {
				t.Errorf("%s has two cases %q", w.name, c.label)
			}
			labels[c.label] = true
		}
		for _, b := range w.bars {
			if b.of == "" || !labels[b.of] || !labels[b.against] || b.metric == nil || b.limit == 0 {
				t.Errorf("%s: the bar %q compares %q with %q", w.name, b.text, b.of, b.against)
			}
		}
	}
}

func TestTablesLeaveOutWhatWasNotMeasured(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := printReports(&out, "table", []report{{Name: "W9", Title: "a test", Cases: []caseReport{
		{Label: "floor", Ratio: 1, Median: lab.Result{JobsPerSecond: 100_000, WorkerCPU: 4}, Runs: make([]lab.Result, 3)},
		{Label: "pool", Ratio: 0.75, Median: lab.Result{JobsPerSecond: 75_000, WorkerCPU: 6.25, PeakRSS: 32 << 20, Batches: 8, Commits: 2}},
	}, Bars: []barResult{
		{Text: "jobs/s against the floor", Value: 0.75, Limit: 0.7, AtLeast: true, Met: true},
		{Text: "worker CPU", Value: 2.5, Limit: 2},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	want := `W9  a test  (3 runs)
   case  jobs/s  ratio  worker µs  peak MiB  batches/commit
  floor  100000   1.00        4.0         -               -
   pool   75000   0.75        6.2        32             4.0
  met    jobs/s against the floor: 0.75, bar ≥ 0.7
  MISSED worker CPU: 2.50, bar ≤ 2

`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestReportsAsJSONCanBeReadAgain(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	reports := []report{{Name: "W9", Cases: []caseReport{{Label: "floor", Runs: []lab.Result{{Jobs: 5}}}}}}
	if err := printReports(&out, "json", reports); err != nil {
		t.Fatal(err)
	}
	var again []report
	if err := json.Unmarshal(out.Bytes(), &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(reports, again); diff != "" {
		t.Errorf("read again (-want +got):\n%s", diff)
	}
	if err := printReports(&out, "yaml", reports); err == nil {
		t.Error("an unknown output is no error")
	}
}

func TestRunTellsWhatIsWrongWithItsArguments(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--workloads", "W1,W99"}, `no workload "W99"`},
		{[]string{"child", "ghost", "{}"}, `none named "ghost"`},
		{[]string{"--jobs", "many"}, "many"},
		{[]string{"--worker", "/does/not/exist", "--workloads", "idle", "-n", "1"}, "/does/not/exist"},
	} {
		var out, talk bytes.Buffer
		if code := run(t.Context(), tc.args, &out, &talk); code != 1 || !strings.Contains(talk.String(), tc.want) {
			t.Errorf("%q: exit code %d, said %q; want 1 and %q", tc.args, code, talk.String(), tc.want)
		}
	}
}

func TestHelpNamesEveryWorkload(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &out, &out); code != 0 {
		t.Fatalf("exit code %d: %s", code, out.String())
	}
	for _, w := range workloads() {
		if !strings.Contains(out.String(), w.title) {
			t.Errorf("the help has no %s", w.name)
		}
	}
}

func TestEveryPointOfAnAxisIsAnotherSpec(t *testing.T) {
	t.Parallel()
	for _, w := range sweeps(axes()) {
		seen := map[string]string{}
		for _, c := range w.cases {
			spec := fmt.Sprintf("%+v", c.spec)
			if other, again := seen[spec]; again || c.who == floor || c.scale <= 0 || c.scale > 1 {
				t.Errorf("%s %s: the same as %q, or at a scale of %g", w.name, c.label, other, c.scale)
			}
			seen[spec] = c.label
		}
	}
	if _, err := chooseAxes("payload,paylode"); err == nil || !strings.Contains(err.Error(), `"paylode"`) {
		t.Errorf("an unknown axis: %v", err)
	}
	if some, err := chooseAxes("Batch, ledger"); err != nil || len(some) != 2 || some[0].name != "batch" {
		t.Errorf("two axes: %v, %v", some, err)
	}
}

func TestTheGuardHoldsProcessorTimeOnly(t *testing.T) {
	t.Parallel()
	cheap := lab.Result{WorkerCPU: 5, BrokerCPU: 10, ServicesCPU: 2, JobsPerSecond: 100}
	for _, tc := range []struct {
		name string
		pool lab.Result
		met  bool
	}{
		{"slower, as dear", lab.Result{WorkerCPU: 7, BrokerCPU: 13, ServicesCPU: 2, JobsPerSecond: 1}, true},
		{"a dear worker", lab.Result{WorkerCPU: 16, BrokerCPU: 10, ServicesCPU: 2, JobsPerSecond: 100}, false},
		{"a dear broker", lab.Result{WorkerCPU: 7, BrokerCPU: 32, ServicesCPU: 2, JobsPerSecond: 100}, false},
	} {
		measured := []caseReport{{Label: "floor", Runs: []lab.Result{cheap}}, {Label: "pool", Runs: []lab.Result{tc.pool}}}
		met := true
		for _, b := range guarded().bars {
			met = met && b.judge(measured).Met
		}
		if met != tc.met {
			t.Errorf("%s: met %t, want %t", tc.name, met, tc.met)
		}
	}
}
