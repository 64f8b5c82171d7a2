package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rollcall/bench/lab"
)

// axis is one thing that costs grow with; everything else stays as in W1.
type axis struct {
	name, title string
	points      []point
}

// point is one value on an axis. Heavy points take a share of the session's jobs.
type point struct {
	label string
	scale float64
	set   func(*lab.Spec)
}

func axes() []axis {
	return []axis{
		{"payload", "bytes of a job's body", points([]int{64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10},
			func(s *lab.Spec, n int) { s.Payload = n },
			func(n int) float64 { return min(1, 1024/float64(n)) })},
		{"batch", "jobs in a batch", points([]int{1, 4, 16, 48, 96, 192, 384, 900},
			func(s *lab.Spec, n int) { s.Batch = n },
			func(n int) float64 { return min(1, float64(n)/16) })},
		{"services", "services that every batch is sent to", points([]int{1, 2, 3, 4, 8, 16},
			func(s *lab.Spec, n int) { s.Services = n }, same)},
		bodies(), formats(), routes(), limits(),
		{"sets", "jobs in a set, 0 = in none", points([]int{0, 10_000, 1000, 100, 10, 1},
			func(s *lab.Spec, n int) { s.SetSize = n }, same)},
		{"keys", "keys of the jobs, batches by key, as many open at once as come", points([]int{1, 100, 10_000, 100_000},
			func(s *lab.Spec, n int) {
				s.Jobs, s.Keys, s.Batch, s.InFlight = 100_000, n, 900, 128
				s.Settings = []string{"ROLLCALL_BATCH_KEY=header:" + lab.KeyHeader}
			}, same)},
		{"slots", "batches in flight, services answer after 20 ms ± 5 ms", points([]int{1, 4, 8, 16, 64},
			func(s *lab.Spec, n int) { slow(s); s.InFlight = n }, same)},
		{"replicas", "replicas, services answer after 20 ms ± 5 ms", points([]int{1, 2, 4, 8, 16},
			func(s *lab.Spec, n int) { slow(s); s.Replicas = n }, same)},
		{"ledger", "records of other jobs in the ledger", points([]int{0, 10_000, 100_000, 1_000_000},
			func(s *lab.Spec, n int) { s.Ledger = n }, same)},
		{"backlog", "jobs waiting at the start", backlogs(10_000, 100_000, 1_000_000, 5_000_000)},
	}
}

func same(int) float64 { return 1 }

func bodies() axis {
	return axis{"body", "what the bodies of jobs are", []point{
		{"JSON", 1, func(s *lab.Spec) { s.Body = lab.BodyJSON }},
		{"text", 1, func(s *lab.Spec) { s.Body = lab.BodyText }},
		{"base64", 1, func(s *lab.Spec) { s.Body = lab.BodyBinary }},
	}}
}

// formats has one service: in the formats event and plain a request carries one job.
func formats() axis {
	format := func(name string) func(*lab.Spec) {
		return func(s *lab.Spec) {
			s.Services = 1
			s.Settings = []string{"ROLLCALL_SVC_S0_FORMAT=" + name, "ROLLCALL_SVC_S0_CONCURRENCY=32"}
		}
	}
	const single = 0.2
	return axis{"format", "the format of one service, 32 requests at once", []point{
		{"batch", 1, format("batch")}, {"event", single, format("event")}, {"plain", single, format("plain")},
	}}
}

func routes() axis {
	split := func(s *lab.Spec) {
		s.Subjects = 2
		s.Settings = []string{"ROLLCALL_SVC_S1_SUBJECTS=jobs.bench.0", "ROLLCALL_SVC_S2_SUBJECTS=jobs.bench.1"}
	}
	return axis{"routes", "which of three services take a job", []point{
		{"all", 1, func(s *lab.Spec) { s.Subjects = 2 }}, {"one takes all, two take half", 1, split},
	}}
}

// limits are on calls; none of them holds a call up here.
func limits() axis {
	each := func(setting string) func(*lab.Spec) {
		return func(s *lab.Spec) {
			for i := range s.Services {
				s.Settings = append(s.Settings, fmt.Sprintf("ROLLCALL_SVC_S%d_%s", i, setting))
			}
		}
	}
	return axis{"limits", "limits of the services", []point{
		{"8 at once", 1, each("CONCURRENCY=8")}, {"auto", 1, each("CONCURRENCY=auto")}, {"100,000/s", 1, each("RATE=100000")},
	}}
}

func points(values []int, set func(*lab.Spec, int), scale func(int) float64) []point {
	out := make([]point, len(values))
	for i, n := range values {
		out[i] = point{label: strconv.Itoa(n), scale: scale(n), set: func(s *lab.Spec) { set(s, n) }}
	}
	return out
}

// backlogs are the points of the axis whose value is the number of jobs itself.
func backlogs(values ...int) []point {
	return points(values, func(s *lab.Spec, n int) { s.Jobs = n }, same)
}

func (s *session) sweepCommand(stdout io.Writer, output *string) *cobra.Command {
	names := ""
	command := &cobra.Command{
		Use:   "sweep",
		Short: "Show how cost grows with payload, batch size, services, formats, routes, sets, keys, limits, replicas, ledger and backlog",
		Long:  "Sweep changes one thing at a time and leaves the rest as in W1. Axes:\n" + describeAxes(),
		Example: `  bench sweep --axes payload,batch --runs 3
  bench sweep --axes backlog --timeout 10m -o json > out/backlog.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			chosen, err := chooseAxes(names)
			if err != nil {
				return err
			}
			return s.report(cmd.Context(), stdout, *output, sweeps(chosen))
		},
	}
	command.Flags().StringVar(&names, "axes", "", "comma list of axes; empty = all")
	return command
}

func describeAxes() string {
	var b strings.Builder
	for _, a := range axes() {
		fmt.Fprintf(&b, "  %-9s %s\n", a.name, a.title)
	}
	return b.String()
}

func chooseAxes(names string) ([]axis, error) {
	all := axes()
	if names == "" {
		return all, nil
	}
	var chosen []axis
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(all, func(a axis) bool { return strings.EqualFold(a.name, strings.TrimSpace(name)) })
		if i < 0 {
			return nil, fmt.Errorf("there is no axis %q; want some of:\n%s", name, describeAxes())
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// sweeps turns axes into workloads of the pool alone, a case for each point.
func sweeps(chosen []axis) []workload {
	var out []workload
	for _, a := range chosen {
		w := workload{name: a.name, title: a.title, scale: 0.25}
		for _, p := range a.points {
			w.cases = append(w.cases, benchCase{label: p.label, spec: with(p.set), scale: p.scale})
		}
		out = append(out, w)
	}
	return out
}

func slow(s *lab.Spec) { s.Delay, s.Jitter = 20*time.Millisecond, 5*time.Millisecond }
