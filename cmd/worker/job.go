package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rollcall/internal/operate"
	"rollcall/internal/table"
)

func (c *cli) jobCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "job ID",
		Short: "Where a job is, and what happened to it",
		Long: `Job finds a job by its uid, or by the id its producer gave it: delayed, waiting, in flight,
waiting for its next attempt, or final. Below it is a time line: when it was published, what each
service said at every attempt, how it ended, its dead letter, and what became of replays, as far
as the events are stored. It exits 4 if there is no such job, or its event is no longer stored. A
uid is found at once; for an id all stored jobs and then the events, the newest first, are read.`,
		Example: `  worker job dk3x0q1z7f4w.42
  worker job invoice-2026-0042 -o json`,
		Args: words(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.administer(cmd.Context(), "job", true, func(ctx context.Context, _ *client, a *operate.Admin) error {
				report, err := a.Job(ctx, args[0])
				if err != nil {
					return err
				}
				return c.printJob(&report)
			})
		},
	}
}

// printJob prints what is known of a job and, in a table, its time line below.
func (c *cli) printJob(r *operate.JobReport) error {
	if err := table.One(c.printer(), *r, jobColumns(r)...); err != nil || c.output != table.Table || len(r.History) == 0 {
		return err
	}
	return errors.Join(c.gap(), table.All(c.printer(), r.History,
		table.Col("time", func(s operate.JobStep) string { return s.At.UTC().Format("2006-01-02T15:04:05.000Z") }),
		table.Col("what", func(s operate.JobStep) string { return strings.ReplaceAll(string(s.What), "_", " ") }),
		table.Col("attempt", func(s operate.JobStep) string { return table.Positive(uint64(max(s.Attempt, 0))) }),
		table.Col("outcome", func(s operate.JobStep) string { return s.Outcome.String() }),
		table.Col("services", func(s operate.JobStep) string { return saidBy(s.Services) }),
		table.Col("reason", stepReason),
	))
}

// stepReason is the reason; for a replay, and for its dead letter, with the uid of the new job, and for
// a cancelled job who did it.
func stepReason(s operate.JobStep) string {
	switch {
	case s.What == operate.StepReplayed:
		return strings.TrimSuffix("as "+s.UID+": "+s.Reason, ": ")
	case s.UID != "":
		return strings.TrimSuffix("of "+s.UID+": "+s.Reason, ": ")
	case s.By != "":
		return "by " + s.By
	default:
		return s.Reason
	}
}

// saidBy lists what services said, by their names.
func saidBy(services map[string]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(services)) {
		all = append(all, name+" "+services[name])
	}
	return strings.Join(all, ", ")
}

// jobColumns are the columns that have a value.
func jobColumns(r *operate.JobReport) []table.Column[operate.JobReport] {
	all := []struct{ title, text string }{
		{"uid", r.UID}, {"id", r.ID}, {"subject", r.Subject}, {"state", strings.ReplaceAll(string(r.State), "_", " ")},
		{"published", table.Moment(r.Published)}, {"replay of", r.ReplayOf}, {"due", r.Due}, {"attempt", table.Positive(uint64(max(r.Attempt, 0)))},
		{"next attempt", table.Moment(r.NextAttempt)}, {"done by", strings.Join(r.Succeeded, ", ")}, {"outcome", r.Outcome.String()}, {"reason", r.Reason}, {"settled", table.Moment(r.SettledAt)},
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
