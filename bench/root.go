package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"rollcall/bench/peer"
)

// childCommand is the hidden command by which this program runs itself as a child.
const childCommand = "child"

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	s := &session{talk: stderr}
	names, output := "", "table"
	root := &cobra.Command{
		Use:   "bench",
		Short: "Measure the worker against the floor, a hand-written loop over the same broker",
		Long:  "Bench measures the worker against the floor, a hand-written loop over the same broker.\n\nWorkloads:\n" + describeWorkloads(),
		Example: `  bench                            every workload, five runs each
  bench --workloads W1,W6 --runs 3
  bench -o json > out/bench.json`,
		Args: cobra.NoArgs, SilenceErrors: true, SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			chosen, err := chooseWorkloads(names)
			if err != nil {
				return err
			}
			return s.report(cmd.Context(), stdout, output, chosen)
		},
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	s.flags(root.PersistentFlags())
	root.PersistentFlags().StringVarP(&output, "output", "o", output, "how to print the figures: table or json")
	root.Flags().StringVar(&names, "workloads", "", "comma list of workloads; empty = all")
	root.AddCommand(newChild(stdout), s.profileCommand(stdout), s.sweepCommand(stdout, &output), s.experimentCommand(stdout, &output), s.guardCommand(stdout))
	return root
}

func newChild(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use: childCommand + " NAME SETTINGS", Hidden: true, DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return peer.Child(cmd.Context(), args, stdout)
		},
	}
}

func chooseWorkloads(names string) ([]workload, error) {
	all := workloads()
	if names == "" {
		return all, nil
	}
	var chosen []workload
	for name := range strings.SplitSeq(names, ",") {
		w, err := findWorkload(all, name)
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, w)
	}
	return chosen, nil
}

func findWorkload(all []workload, name string) (workload, error) {
	for _, w := range all {
		if strings.EqualFold(w.name, strings.TrimSpace(name)) {
			return w, nil
		}
	}
	return workload{}, fmt.Errorf("there is no workload %q; want some of:\n%s", name, describeWorkloads())
}

func printReports(out io.Writer, format string, reports []report) error {
	switch format {
	case "json":
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(reports); err != nil {
			return fmt.Errorf("print as JSON: %w", err)
		}
		return nil
	case "table":
		return printTables(out, reports)
	default:
		return fmt.Errorf("there is no output %q; want table or json", format)
	}
}
