package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// The guard's limits. A shared machine halves or doubles any absolute time, and the ratio of
// jobs/s too when a neighbour wakes up between two runs; processor time per job in proportion
// to the floor's of the same minute moves by a tenth. So that is what the guard holds, with a
// margin of two fifths over what was measured: 2.2 for the worker, and 1.4 for worker, broker
// and services together.
const (
	guardJobs      = 20_000
	guardRuns      = 3
	guardWorkerCPU = 2.8
	guardTotalCPU  = 2.0
)

// errSlower is what a regression looks like.
var errSlower = errors.New("the worker has become costlier than the guard allows; compare with docs/performance.md and run 'make profile'")

func (s *session) guardCommand(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "guard",
		Short: "Fail if a job costs clearly more than it did, in proportion to the floor; for CI",
		Long: fmt.Sprintf(`Guard runs W1 %d times with %d jobs, the floor and the worker in turn, and compares processor
time per job: the worker's may be %g times the floor's, that of worker, broker and services
together %g times. It looks at no absolute time.`, guardRuns, guardJobs, guardWorkerCPU, guardTotalCPU),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s.jobs, s.runs = guardJobs, guardRuns
			return s.with(cmd.Context(), func() error {
				r, err := s.measure(cmd.Context(), guarded())
				if err != nil {
					return err
				}
				if err := printTables(stdout, []report{r}); err != nil {
					return err
				}
				for _, v := range r.Bars {
					if !v.Met {
						return fmt.Errorf("%w: %s", errSlower, v.Text)
					}
				}
				return nil
			})
		},
	}
}

func guarded() workload {
	return workload{
		name: "guard", title: "W1, processor time per job against the floor", scale: 1, cases: versus(base()),
		bars: []bar{
			{text: "worker CPU per job against the floor", of: "pool", against: "floor", metric: workerCPU, limit: guardWorkerCPU},
			{text: "CPU of all per job against the floor", of: "pool", against: "floor", metric: totalCPU, limit: guardTotalCPU},
		},
	}
}
