package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"rollcall/internal/jobs"
	"rollcall/internal/operate"
	"rollcall/internal/table"
)

func (c *cli) setCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "set",
		Short: "Sets: jobs that belong together and end in one event",
		Long: `A set consists of the jobs with the header Rollcall-Set: ID, its members. At least one of them also
declares how many there are, by Rollcall-Set-Size, or 'worker set close' does later. Once that many
have ended, whatever their outcomes, the set ends in one event, sets.<pool>.<outcome>.<ID>.`,
		Example: `  worker publish jobs.row --set import-7 --set-size 5000 < rows.ndjson
  worker set wait import-7`,
		Args: knownSubcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	command.AddCommand(c.setListCommand(), c.setShowCommand(), c.setWaitCommand(), c.setCloseCommand(), c.setCancelCommand())
	return command
}

func (c *cli) setListCommand() *cobra.Command {
	limit := 100
	command := &cobra.Command{
		Use:     "ls",
		Short:   "List sets: open ones, and those whose event is still stored",
		Example: "  worker set ls\n  worker set ls --limit 1000 -o jsonl",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 {
				return usageError(fmt.Errorf("--limit %d: want 1 or more", limit))
			}
			return c.administer(cmd.Context(), "set ls", true, func(ctx context.Context, cl *client, a *operate.Admin) error {
				sets, more, err := a.Sets(ctx, limit)
				if err != nil {
					return err
				}
				if len(sets) == 0 && c.output == table.Table {
					fmt.Fprintf(c.stderr, "No sets of pool %s.\n", cl.cfg.Pool)
					return nil
				}
				if err := table.All(c.printer(), sets, setColumns()...); err != nil {
					return err
				}
				if more {
					fmt.Fprintf(c.stderr, "There are more than %d sets; --limit shows more.\n", limit)
				}
				return nil
			})
		},
	}
	command.Flags().IntVar(&limit, "limit", limit, "list at most this many, those written longest ago first")
	return command
}

func setColumns() []table.Column[operate.SetReport] {
	number := func(title string, of func(operate.SetReport) int) table.Column[operate.SetReport] {
		return table.Col(title, func(r operate.SetReport) string { return strconv.Itoa(of(r)) })
	}
	return []table.Column[operate.SetReport]{
		table.Col("set", func(r operate.SetReport) string { return r.Set }),
		table.Col("state", func(r operate.SetReport) string { return cmp.Or(string(r.Outcome), "open") }),
		table.Col("done", func(r operate.SetReport) string { return progress(&r) }),
		number("succeeded", func(r operate.SetReport) int { return r.Counts.Succeeded }),
		number("failed", func(r operate.SetReport) int { return r.Counts.Failed }),
		number("expired", func(r operate.SetReport) int { return r.Counts.Expired }),
		number("invalid", func(r operate.SetReport) int { return r.Counts.Invalid }),
		number("cancelled", func(r operate.SetReport) int { return r.Counts.Cancelled }),
		table.Col("first", func(r operate.SetReport) string { return table.Moment(r.FirstAt) }),
		table.Col("settled", func(r operate.SetReport) string { return table.Moment(r.SettledAt) }),
	}
}

// progress reads "3 of 5", or "3 of ?" before any member has declared the size.
func progress(r *operate.SetReport) string {
	if r.Size == 0 {
		return strconv.Itoa(r.Done) + " of ?"
	}
	return strconv.Itoa(r.Done) + " of " + strconv.Itoa(r.Size)
}

func (c *cli) setShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show ID",
		Short:   "One set, with the members that did not succeed",
		Example: "  worker set show import-7",
		Args:    words(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.administer(cmd.Context(), "set show", true, func(ctx context.Context, _ *client, a *operate.Admin) error {
				report, err := a.Set(ctx, args[0])
				if err != nil {
					return setFault(err)
				}
				return c.showSet(report)
			})
		},
	}
}

func setFault(err error) error {
	if errors.Is(err, operate.ErrSetName) {
		return usageError(err)
	}
	return err
}

func (c *cli) showSet(r operate.SetReport) error {
	if err := table.One(c.printer(), r, setColumns()...); err != nil || c.output != table.Table || len(r.Failed) == 0 {
		return err
	}
	fmt.Fprintln(c.stdout)
	if err := table.All(c.printer(), r.Failed,
		table.Col("uid", func(f jobs.SetFailure) string { return f.UID }),
		table.Col("id", func(f jobs.SetFailure) string { return f.ID }),
		table.Col("outcome", func(f jobs.SetFailure) string { return f.Outcome.String() }),
		table.Col("reason", func(f jobs.SetFailure) string { return f.Reason }),
	); err != nil {
		return err
	}
	if r.Truncated {
		fmt.Fprintln(c.stderr, "The list is not complete; the batches' events and the dead letters have the others.")
	}
	return nil
}

// errSetOutcome is returned for a set that did not succeed.
var errSetOutcome = errors.New("the set did not succeed")

func (c *cli) setWaitCommand() *cobra.Command {
	var timeout time.Duration
	command := &cobra.Command{
		Use:   "wait ID",
		Short: "Wait for the end of a set",
		Long: `Wait shows how many members have ended, and the outcome of the set once it has ended. It exits 0 if
every member succeeded, and 1 otherwise, or if --timeout ends it first. A set of which nothing is
known yet is waited for too.`,
		Example: "  worker set wait import-7 --timeout 1h",
		Args:    words(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout < 0 {
				return usageError(fmt.Errorf("--timeout %v: want 0 or more", timeout))
			}
			return c.administer(cmd.Context(), "set wait", true, func(ctx context.Context, _ *client, a *operate.Admin) error {
				return c.waitSet(ctx, a, args[0], timeout)
			})
		},
	}
	command.Flags().DurationVar(&timeout, "timeout", 0, "give up after this long; 0 waits for ever")
	return command
}

func (c *cli) waitSet(ctx context.Context, a *operate.Admin, set string, timeout time.Duration) error {
	if timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("set %s has not ended within %v", set, timeout))
		defer stop()
	}
	show, done := c.setProgress(set)
	report, err := a.WaitSet(ctx, set, show)
	done()
	if err != nil {
		return setFault(err)
	}
	if err := c.showSet(report); err != nil {
		return err
	}
	if report.Outcome != jobs.SetSucceeded {
		return fmt.Errorf("%w: %s", errSetOutcome, report.Outcome)
	}
	return nil
}

// setProgress shows the state of a set: by a bar on a terminal, else by a line after each change.
func (c *cli) setProgress(set string) (show func(operate.SetReport), done func()) {
	if !isTerminal(c.stderr) {
		last := operate.SetReport{Size: -1}
		return func(r operate.SetReport) {
			if r.Done != last.Done || r.Size != last.Size {
				fmt.Fprintf(c.stderr, "set %s: %s members have ended\n", set, progress(&r))
			}
			last = r
		}, func() {}
	}
	bar := progressbar.NewOptions(-1,
		progressbar.OptionSetWriter(c.stderr), progressbar.OptionSetDescription(set), progressbar.OptionShowCount(),
		progressbar.OptionFullWidth(), progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(true))
	size := 0
	return func(r operate.SetReport) {
		if r.Size != size {
			size = r.Size
			bar.ChangeMax(size)
		}
		_ = bar.Set(min(r.Done, max(size-1, 0))) // a bar that cannot be drawn is no fault of the set's
	}, func() { _ = bar.Finish() }
}

func (c *cli) setCloseCommand() *cobra.Command {
	size := 0
	command := &cobra.Command{
		Use:   "close ID --size N",
		Short: "Declare how many members a set has",
		Long: `Close is for a producer that did not know how many members there would be when it sent the
first. Of different sizes the largest counts. The set ends once so many members have ended.`,
		Example: "  worker set close import-7 --size 5000",
		Args:    words(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if size < 1 {
				return usageError(errors.New("--size: want how many members the set has, 1 or more"))
			}
			return c.administer(cmd.Context(), "set close", true, func(ctx context.Context, _ *client, a *operate.Admin) error {
				counts, err := a.CloseSet(ctx, args[0], size)
				if err != nil {
					return setFault(err)
				}
				if counts > size {
					fmt.Fprintf(c.stderr, "The set was said to have %d members; of different sizes the largest counts.\n", counts)
				}
				return table.One(c.printer(), closed{args[0], counts},
					table.Col("set", func(r closed) string { return r.Set }),
					table.Col("size", func(r closed) string { return strconv.Itoa(r.Size) }))
			})
		},
	}
	command.Flags().IntVar(&size, "size", 0, "how many members the set has; required")
	return command
}

// closed is a set whose size was declared.
type closed struct {
	Set  string `json:"set"`
	Size int    `json:"size"`
}
