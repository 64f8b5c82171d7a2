package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"rollcall/bench/lab"
)

func (s *session) profileCommand(stdout io.Writer) *cobra.Command {
	dir, name, floor := "out", "W1", false
	command := &cobra.Command{
		Use:     "profile",
		Short:   "Run a workload once and write profiles: the worker's CPU, heap, mutex and block, the broker's CPU",
		Example: "  bench profile --jobs 200000\n  go tool pprof -top -cum out/cpu.pprof\n  go tool pprof -top -cum out/broker.pprof\n  bench profile --floor --out floor\n  go tool pprof -top -cum -diff_base floor/broker.pprof out/broker.pprof",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := findWorkload(workloads(), name)
			if err != nil {
				return err
			}
			out, err := filepath.Abs(dir)
			if err != nil {
				return fmt.Errorf("find the folder for profiles: %w", err)
			}
			spec := w.cases[len(w.cases)-1].spec
			spec.Jobs, spec.Replicas = int(float64(s.jobs)*w.scale), 1
			return s.with(cmd.Context(), func() error {
				if err := os.MkdirAll(out, 0o750); err != nil {
					return fmt.Errorf("make the folder for profiles: %w", err)
				}
				s.setup.Profile = filepath.Join(out, "broker.pprof")
				contender := lab.Pool(s.worker, s.env, []string{"--pprof-dir", out})
				if floor {
					contender = lab.Floor()
				}
				r, err := s.once(cmd.Context(), contender, spec)
				if err != nil {
					return err
				}
				fmt.Fprintf(stdout, "%s under profiling: %s\nprofiles in %s\n", w.name, summary(r), dir)
				return nil
			})
		},
	}
	command.Flags().StringVar(&dir, "out", dir, "the folder to write profiles to")
	command.Flags().BoolVar(&floor, "floor", false, "the floor in place of the worker: the broker's profile only")
	command.Flags().StringVar(&name, "workload", name, "what to run; one replica of its last case")
	return command
}
