package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"

	"github.com/spf13/cobra"

	"rollcall/internal/operate"
	"rollcall/internal/table"
)

func (c *cli) cancelCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cancel ID",
		Short: "Cancel a job: waiting, delayed, in a back-off, or while it is worked on",
		Long: `Cancel ends a job as cancelled, in an event of its own. The argument is a uid, or the id its producer
gave it. Whoever commits the end of a job first wins, so a job is cancelled or otherwise final,
never both: cancel exits 1 if the job has ended, and 4 if there is none. Calls under way are cut.
There is no dead letter.`,
		Example: `  worker cancel dk3x0q1z7f4w.42
  worker cancel invoice-2026-0042`,
		Args: words(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.administer(cmd.Context(), "cancel", true, func(ctx context.Context, _ *client, a *operate.Admin) error {
				report, err := a.Cancel(ctx, operator(), args[0])
				if err != nil {
					return err
				}
				return table.One(c.printer(), report, jobColumns(&report)...)
			})
		},
	}
}

// operator names who runs this command, for events.
func operator() string {
	name := "somebody"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

func (c *cli) setCancelCommand() *cobra.Command {
	yes := false
	command := &cobra.Command{
		Use:   "cancel ID --yes",
		Short: "Cancel every member of a set that is open",
		Long: `Cancel ends all members of a set that wait, are delayed or are worked on, each in an event of its
own. They count, so the set ends once all of its members have.`,
		Example: "  worker set cancel import-7 --yes",
		Args:    words(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				return usageError(errors.New("this cannot be undone: add --yes"))
			}
			return c.administer(cmd.Context(), "set cancel", true, func(ctx context.Context, _ *client, a *operate.Admin) error {
				done, err := a.CancelSet(ctx, operator(), args[0])
				if err != nil {
					if done.Cancelled > 0 {
						err = fmt.Errorf("after %d cancelled jobs: %w", done.Cancelled, err)
					}
					return setFault(err)
				}
				return table.One(c.printer(), done,
					table.Col("cancelled", func(d operate.Cancellation) string { return strconv.Itoa(d.Cancelled) }),
					table.Col("ended before", func(d operate.Cancellation) string { return strconv.Itoa(d.Ended) }))
			})
		},
	}
	command.Flags().BoolVar(&yes, "yes", false, "cancel without being asked")
	return command
}
