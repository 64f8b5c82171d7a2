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
	dir, name := "out", "W1"
	command := &cobra.Command{
		Use:     "profile",
		Short:   "Run a workload once and write profiles: the worker's CPU, heap, mutex and block, the broker's CPU",
		Example: "  bench profile --jobs 200000\n  go tool pprof -top -cum out/cpu.pprof\n  go tool pprof -top -cum out/broker.pprof",
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
				r, err := s.once(cmd.Context(), lab.Pool(s.worker, s.env, []string{"--pprof-dir", out}), spec)
				if err != nil {
					return err
				}
				fmt.Fprintf(stdout, "%s under profiling: %s\nprofiles in %s\n", w.name, summary(r), dir)
				return nil
			})
		},
	}
	command.Flags().StringVar(&dir, "out", dir, "the folder to write profiles to")
	command.Flags().StringVar(&name, "workload", name, "what to run; one replica of its last case")
	return command
}
