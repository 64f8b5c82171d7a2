package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"rollcall/bench/lab"
	"rollcall/internal/jobs"
	"rollcall/internal/overlay"
)

// experiment is a question of design that measurements answer; what came of it stands in
// docs/adr.
type experiment struct {
	name, title string
	workloads   []workload
}

func experiments() []experiment {
	return []experiment{
		{"pages", "how many jobs share a ledger page, against replicas", []workload{pagesDrained(), pagesLatency(), pagesRetried()}},
		{"keep", "a job stream that keeps what is acked, and a sweep that purges it", []workload{kept()}},
	}
}

var pageSizes = []int{8, 16, 32, 64}

// pageCases are one case for each page size and number of replicas.
func pageCases(replicas []int, change func(*lab.Spec)) (cases []benchCase) {
	for _, n := range replicas {
		for _, size := range pageSizes {
			label := fmt.Sprintf("pages of %d, %d replicas", size, n)
			cases = append(cases, benchCase{label: label, spec: with(func(s *lab.Spec) {
				change(s)
				s.Replicas, s.PageSize = n, size
			})})
		}
	}
	return cases
}

func pagesDrained() workload {
	return workload{
		name: "drain", title: "W1 with services that take 20 ms ± 5 ms", scale: 0.25,
		cases: pageCases([]int{1, 4, 16}, slow),
	}
}

func pagesLatency() workload {
	return workload{
		name: "latency", title: "2,000 jobs/s, linger 5 ms, time from publish to event", scale: 0.05,
		cases: pageCases([]int{1, 4, 16}, func(s *lab.Spec) { s.Rate = 2000 }),
	}
}

func pagesRetried() workload {
	return workload{
		name: "retries", title: "W6, 10 % of the jobs need a second attempt", scale: 0.25,
		cases: pageCases([]int{1}, func(s *lab.Spec) { s.RetryShare = 0.1 }),
	}
}

func kept() workload {
	keep := with(func(s *lab.Spec) { s.Keep = true })
	return workload{
		name: "keep", title: "W1, the job stream a work queue or one that keeps everything and is purged", scale: 1,
		cases: []benchCase{
			{label: "floor, work queue", who: floor, spec: base()}, {label: "floor, kept and purged", who: floor, spec: keep},
			{label: "pool, work queue", spec: base()}, {label: "pool, kept and purged", spec: keep},
		},
	}
}

func (s *session) experimentCommand(stdout io.Writer, output *string) *cobra.Command {
	names := make([]string, 0, len(experiments()))
	long := "Experiment measures variants that a decision was made between; docs/adr has the results.\n"
	for _, e := range experiments() {
		names = append(names, e.name)
		long += fmt.Sprintf("  %-6s %s\n", e.name, e.title)
	}
	return &cobra.Command{
		Use:     "experiment NAME",
		Short:   "Measure the variants that a decision of design was made between",
		Long:    long,
		Example: "  bench experiment pages -n 3\n  bench experiment keep",
		Args:    cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs), ValidArgs: names,
		RunE: func(cmd *cobra.Command, args []string) error {
			e := experiments()[slices.Index(names, args[0])]
			return s.report(cmd.Context(), stdout, *output, e.workloads)
		},
	}
}

// buildTimeout bounds the build of a variant, with nothing in the build cache.
const buildTimeout = 10 * time.Minute

// workerFor returns the worker with so many jobs to a ledger page, which is built on its first
// use; 0 = the session's worker.
func (s *session) workerFor(ctx context.Context, pageSize int) (path string, err error) {
	if pageSize == 0 {
		return s.worker, nil
	}
	if path = s.variants[pageSize]; path != "" {
		return path, nil
	}
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	dir := filepath.Join(s.built, fmt.Sprintf("pages-%d", pageSize))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a folder for a worker with pages of %d: %w", pageSize, err)
	}
	flag, err := pageSizeChange(pageSize).Write(dir)
	if err != nil {
		return "", fmt.Errorf("set the page size (run this at the root of the repository): %w", err)
	}
	if path, err = build(ctx, filepath.Join(dir, "worker"), "-overlay", flag); err != nil {
		return "", err
	}
	if s.variants == nil {
		s.variants = map[int]string{}
	}
	s.variants[pageSize] = path
	return path, nil
}

// pageSizeChange makes so many jobs share a ledger page.
func pageSizeChange(n int) overlay.Change {
	const line = "const PageSize = %d\n"
	return overlay.Change{File: "internal/jobs/page.go", Old: fmt.Sprintf(line, jobs.PageSize), New: fmt.Sprintf(line, n)}
}
