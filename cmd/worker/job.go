package main

import (
	"strings"

	"github.com/spf13/cobra"

	"rollcall/internal/operate"
	"rollcall/internal/table"
)

func (c *cli) jobCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "job ID",
		Short: "Where a job is: waiting, in flight, or final in which event",
		Long: `Job finds a job by its uid, or by the id its producer gave it: delayed, waiting, in flight with
the number of the attempt, or final with the event and the dead letter. It exits 4 if there is
no such job, or its event is no longer stored. A uid is found at once while the job is open; an
id, and the event of a job that is final, are searched for among all that are stored.`,
		Example: `  worker job dk3x0q1z7f4w.42
  worker job invoice-2026-0042 -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.administer(cmd.Context(), "job", true, func(_ *client, a *operate.Admin) error {
				report, err := a.Job(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return table.One(c.printer(), report, jobColumns(&report)...)
			})
		},
	}
}

// jobColumns are those that have something to tell.
func jobColumns(r *operate.JobReport) []table.Column[operate.JobReport] {
	all := []struct{ title, text string }{
		{"uid", r.UID}, {"id", r.ID}, {"subject", r.Subject}, {"state", strings.ReplaceAll(string(r.State), "_", " ")},
		{"published", table.Moment(r.Published)}, {"due", r.Due}, {"attempt", table.Positive(uint64(max(r.Attempt, 0)))},
		{"done by", strings.Join(r.Succeeded, ", ")}, {"outcome", r.Outcome.String()}, {"reason", r.Reason}, {"settled", table.Moment(r.SettledAt)},
		{"batch", r.BatchID}, {"event", table.Positive(r.EventSeq)}, {"dead letter", table.Positive(r.DeadLetter)},
	}
	var columns []table.Column[operate.JobReport]
	for _, row := range all {
		if row.text != "" {
			columns = append(columns, table.Col(row.title, func(operate.JobReport) string { return row.text }))
		}
	}
	return columns
}
