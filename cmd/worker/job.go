package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rollcall/internal/operate"
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
				return printOne(c, report, jobColumns(&report)...)
			})
		},
	}
}

// jobColumns are those that have something to tell.
func jobColumns(r *operate.JobReport) []column[operate.JobReport] {
	all := []struct{ title, text string }{
		{"uid", r.UID}, {"id", r.ID}, {"subject", r.Subject}, {"state", strings.ReplaceAll(string(r.State), "_", " ")},
		{"published", moment(r.Published)}, {"due", r.Due}, {"attempt", positive(uint64(max(r.Attempt, 0)))},
		{"done by", strings.Join(r.Succeeded, ", ")}, {"outcome", r.Outcome.String()}, {"reason", r.Reason}, {"settled", moment(r.SettledAt)},
		{"batch", r.BatchID}, {"event", positive(r.EventSeq)}, {"dead letter", positive(r.DeadLetter)},
	}
	var columns []column[operate.JobReport]
	for _, row := range all {
		if row.text != "" {
			columns = append(columns, column[operate.JobReport]{row.title, func(operate.JobReport) string { return plain(row.text) }})
		}
	}
	return columns
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// positive writes a number, and nothing for 0.
func positive(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}
