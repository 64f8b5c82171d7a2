package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"rollcall/bench/lab"
)

// session is what all measurements of one call of the program share.
type session struct {
	worker  string
	env     []string
	dir     string
	jobs    int
	runs    int
	timeout time.Duration

	talk  io.Writer
	setup lab.Setup
	// built is the folder for what this session builds, variants the workers among it that an
	// experiment compares, by their page size.
	built    string
	variants map[int]string
}

// report is what a workload showed.
type report struct {
	Name  string       `json:"name"`
	Title string       `json:"title"`
	Cases []caseReport `json:"cases"`
	Bars  []barResult  `json:"bars"`
}

// caseReport is what one case of a workload showed.
type caseReport struct {
	Label  string       `json:"label"`
	Spec   lab.Spec     `json:"spec"`
	Median lab.Result   `json:"median"`
	Runs   []lab.Result `json:"runs"`
	// Ratio and CPURatio are jobs/s and worker CPU in proportion to the first case, run by run.
	Ratio    float64 `json:"ratio"`
	CPURatio float64 `json:"cpu_ratio"`
}

func (s *session) flags(f *pflag.FlagSet) {
	f.StringVar(&s.worker, "worker", "", "the worker's binary; empty = build it from this module")
	f.StringArrayVar(&s.env, "env", nil, "NAME=VALUE, one more setting for the worker; may be given several times")
	f.StringVar(&s.dir, "dir", os.TempDir(), "where the broker's files go; its disk counts")
	f.IntVar(&s.jobs, "jobs", 200_000, "jobs a run; slow workloads take a share of it")
	f.IntVarP(&s.runs, "runs", "n", 5, "runs of each case, in turn; the median counts")
	f.DurationVar(&s.timeout, "timeout", 2*time.Minute, "the longest a single run may take")
}

// with makes the worker ready, runs do and cleans up.
func (s *session) with(ctx context.Context, do func() error) (err error) {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	s.setup = lab.Setup{Exe: exe, Args: []string{childCommand}, Dir: s.dir}
	if s.built, err = os.MkdirTemp("", "rollcall-worker-"); err != nil {
		return fmt.Errorf("make a folder for the worker: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.built)) }()
	if s.worker == "" {
		if s.worker, err = build(ctx, filepath.Join(s.built, "worker")); err != nil {
			return err
		}
	}
	return do()
}

// build builds the worker at path; flags are added to those of go build.
func build(ctx context.Context, path string, flags ...string) (string, error) {
	args := append([]string{"build", "-o", path}, flags...)
	out, err := exec.CommandContext(ctx, "go", append(args, "rollcall/cmd/worker")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the worker (or name one by --worker): %w\n%s", err, out)
	}
	return path, nil
}

// report measures workloads and prints what they showed, in the format of printReports. Where one
// cannot be measured it prints what those before it showed.
func (s *session) report(ctx context.Context, stdout io.Writer, format string, chosen []workload) error {
	return s.with(ctx, func() error {
		reports, err := s.measureAll(ctx, chosen)
		if len(reports) == 0 {
			return err
		}
		return errors.Join(err, printReports(stdout, format, reports))
	})
}

// measureAll returns what it could measure, with the error that ended it.
func (s *session) measureAll(ctx context.Context, chosen []workload) ([]report, error) {
	var reports []report
	for _, w := range chosen {
		r, err := s.measure(ctx, w)
		if err != nil {
			return reports, fmt.Errorf("measure %s: %w", w.name, err)
		}
		reports = append(reports, r)
	}
	return reports, nil
}

// measure runs the cases in turn, A B A B, so that a machine that slows down for a while
// slows all of them.
func (s *session) measure(ctx context.Context, w workload) (report, error) {
	r := report{Name: w.name, Title: w.title, Cases: make([]caseReport, len(w.cases))}
	for i, c := range w.cases {
		if c.spec.Jobs == 0 { // a backlog is what it is
			c.spec.Jobs = int(float64(s.jobs) * w.scale * cmp.Or(c.scale, 1))
		}
		r.Cases[i] = caseReport{Label: c.label, Spec: c.spec}
	}
	for n := range s.runs {
		for i, c := range w.cases {
			contender, err := s.contender(ctx, c)
			if err != nil {
				return r, fmt.Errorf("%s: %w", c.label, err)
			}
			result, err := s.once(ctx, contender, r.Cases[i].Spec)
			if err != nil {
				return r, fmt.Errorf("%s: %w", c.label, err)
			}
			r.Cases[i].Runs = append(r.Cases[i].Runs, result)
			fmt.Fprintf(s.talk, "%s %d/%d %-20s %s\n", w.name, n+1, s.runs, c.label, summary(result))
		}
	}
	first := r.Cases[0].Label
	for i := range r.Cases {
		c := &r.Cases[i]
		c.Median = medians(c.Runs)
		c.Ratio = bar{of: c.Label, against: first, metric: jobsPerSecond}.judge(r.Cases).Value
		c.CPURatio = bar{of: c.Label, against: first, metric: workerCPU}.judge(r.Cases).Value
	}
	for _, b := range w.bars {
		r.Bars = append(r.Bars, b.judge(r.Cases))
	}
	return r, nil
}

// contender returns who a case is about; of the worker, the build that the case wants.
func (s *session) contender(ctx context.Context, c benchCase) (lab.Contender, error) {
	switch c.who {
	case floor:
		return lab.Floor(), nil
	case simple:
		return lab.Simple(), nil
	default:
		path, err := s.workerFor(ctx, c.spec.PageSize)
		return lab.Pool(path, s.env, nil), err
	}
}

func (s *session) once(ctx context.Context, c lab.Contender, spec lab.Spec) (lab.Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, fmt.Errorf("one run took longer than --timeout %s", s.timeout))
	defer cancel()
	return lab.Measure(ctx, s.setup, c, spec)
}
