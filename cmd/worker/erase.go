package main

import (
	"context"
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"rollcall/internal/operate"
	"rollcall/internal/table"
)

func (c *cli) eraseCommand() *cobra.Command {
	var yes bool
	command := &cobra.Command{
		Use:   "erase ID",
		Short: "Erase the stored data of a job: body, dead letters, its entries in events and sets",
		Long: `Erase removes the stored data of a job, by its uid or by the id that its producer gave it, and has the
server overwrite it on disk. An open job is cancelled first. Its dead letters are removed. Its entry in the
event of its batch keeps the uid, the outcome and the attempt, and says "erased":true; the other
entries and the counts stay as they are, and the event is published again under the same id. The same
goes for the sets that it is a member of, and for the archive, if there is one.

Data in services, logs, traces and backups is not erased: see docs/data.md. It exits 4 if
nothing is stored of the job. A crash loses nothing: run it again.`,
		Example: `  worker erase dk3x0q1z7f4w.42 --yes
  worker erase invoice-2026-0042 --yes`,
		Args: words(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				return usageError(errors.New("this cannot be undone: add --yes"))
			}
			return c.administer(cmd.Context(), "erase", true, func(ctx context.Context, _ *client, a *operate.Admin) error {
				done, err := a.Erase(ctx, operator(), args[0])
				if err != nil {
					return err
				}
				count := func(name string, n int) table.Column[operate.Erasure] {
					return table.Col(name, func(operate.Erasure) string { return strconv.Itoa(n) })
				}
				return table.One(c.printer(), done,
					count("jobs cancelled", done.Jobs), count("dead letters", done.Letters),
					count("events rewritten", done.Events), count("sets rewritten", done.Sets), count("events of the archive", done.Archived))
			})
		},
	}
	command.Flags().BoolVarP(&yes, "yes", "y", false, "do it, though it cannot be undone")
	return command
}
