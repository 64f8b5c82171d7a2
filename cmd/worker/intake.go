package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"rollcall/internal/jobs"
	"rollcall/internal/operate"
	"rollcall/internal/table"
)

// intakeChange is what pause, resume and drain print.
type intakeChange struct {
	Pool string `json:"pool"`
	// Change is paused, resumed or draining; in a dry run what would be.
	Change      string    `json:"change"`
	Replica     string    `json:"replica,omitempty"`
	PausedUntil time.Time `json:"paused_until,omitzero"`
	Waiting     uint64    `json:"waiting"`
	Held        int       `json:"held,omitempty"`
	DryRun      bool      `json:"dry_run,omitempty"`
}

func (c *cli) printChange(i intakeChange) error {
	columns := []table.Column[intakeChange]{
		table.Col("pool", func(i intakeChange) string { return i.Pool }),
		table.Col("change", func(i intakeChange) string {
			if i.DryRun {
				return "would be " + i.Change
			}
			return i.Change
		}),
	}
	if i.Replica != "" {
		columns = append(columns,
			table.Col("replica", func(i intakeChange) string { return i.Replica }),
			table.Col("holds", func(i intakeChange) string { return fmt.Sprint(i.Held) }))
	} else {
		columns = append(columns, table.Col("waiting", func(i intakeChange) string { return fmt.Sprint(i.Waiting) }))
	}
	if !i.PausedUntil.IsZero() {
		columns = append(columns, table.Col("until", func(i intakeChange) string { return table.Moment(i.PausedUntil) }))
	}
	return table.One(c.printer(), i, columns...)
}

func (c *cli) pauseCommand() *cobra.Command {
	var until, lasting string
	var dryRun bool
	command := &cobra.Command{
		Use:   "pause",
		Short: "Keep the broker from handing out jobs of the pool for a while",
		Long: `Pause makes NATS hand out no more jobs of the pool, to any replica, until a time. Jobs that
were handed out are finished; producers go on publishing. NATS itself keeps the pause, so replicas
may come and go. It ends by itself, or by 'worker resume'.`,
		Example: `  worker pause --for 30m
  worker pause --until 2026-12-01T06:00:00Z
  worker pause --for 1h --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			end, err := pauseEnd(until, lasting)
			if err != nil {
				return usageError(err)
			}
			return c.administer(cmd.Context(), "pause", true, func(ctx context.Context, cl *client, a *operate.Admin) error {
				state, err := a.State(ctx)
				if err != nil {
					return err
				}
				at := end.From(state.At)
				if !at.After(state.At) {
					return usageError(fmt.Errorf("%s is over already: the broker's clock says %s", table.Moment(at), table.Moment(state.At)))
				}
				if !dryRun {
					if err := a.Pause(ctx, at); err != nil {
						return err
					}
				}
				return c.printChange(intakeChange{Pool: cl.cfg.Pool, Change: "paused", PausedUntil: at, Waiting: state.Waiting, DryRun: dryRun})
			})
		},
	}
	command.Flags().StringVar(&until, "until", "", "when the pause ends, RFC 3339")
	command.Flags().StringVar(&lasting, "for", "", "how long the pause lasts, such as 30m")
	command.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would be done")
	return command
}

func pauseEnd(until, lasting string) (operate.Point, error) {
	switch {
	case (until == "") == (lasting == ""):
		return operate.Point{}, errors.New("say how long: --for 30m, or --until 2026-12-01T06:00:00Z")
	case until != "":
		return operate.Later("until", until)
	default:
		return operate.Later("for", lasting)
	}
}

func (c *cli) resumeCommand() *cobra.Command {
	var dryRun bool
	command := &cobra.Command{
		Use:     "resume",
		Short:   "End a pause",
		Long:    `Resume ends a pause before its time. Without one it does nothing.`,
		Example: "  worker resume",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.administer(cmd.Context(), "resume", true, func(ctx context.Context, cl *client, a *operate.Admin) error {
				state, err := a.State(ctx)
				change := "resumed"
				if state.PausedUntil.IsZero() {
					change = "none: it was not paused"
				} else if err == nil && !dryRun {
					err = a.Resume(ctx)
				}
				if err != nil {
					return err
				}
				return c.printChange(intakeChange{Pool: cl.cfg.Pool, Change: change, Waiting: state.Waiting, DryRun: dryRun})
			})
		},
	}
	command.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would be done")
	return command
}

func (c *cli) drainCommand() *cobra.Command {
	var dryRun bool
	command := &cobra.Command{
		Use:   "drain REPLICA",
		Short: "Make one replica finish the jobs that it holds and exit",
		Long: `Drain makes one replica take no more jobs, finish and commit those that it holds, and exit, as SIGTERM
does. It returns at once; 'worker status' shows the replica until it is gone. Its
supervisor may start it again: to have fewer replicas, scale down.`,
		Example: `  worker status
  worker drain web-7c9f-a81XQz`,
		Args: words(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.administer(cmd.Context(), "drain", false, func(ctx context.Context, cl *client, a *operate.Admin) error {
				var state jobs.ReplicaState
				var err error
				if dryRun {
					state, err = a.Replica(ctx, args[0])
				} else {
					state, err = a.Drain(ctx, args[0])
				}
				if err != nil {
					return err
				}
				return c.printChange(intakeChange{Pool: cl.cfg.Pool, Change: "draining", Replica: state.Replica, Held: state.HeldJobs, DryRun: dryRun})
			})
		},
	}
	command.Flags().BoolVar(&dryRun, "dry-run", false, "only look whether the replica is there")
	return command
}
