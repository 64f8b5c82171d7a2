package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rollcall/internal/app"
	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/table"
	"rollcall/internal/telemetry"
)

// commandPatience is how long a command waits for the broker: a person looks on.
const commandPatience = 5 * time.Second

// step is one line of what setup did or found.
type step struct {
	Object string `json:"object"`
	// Status is created, missing, harmless, differs, or refused: a replica does not start.
	Status string `json:"status"`
	Field  string `json:"field,omitempty"`
	Have   string `json:"have,omitempty"`
	Want   string `json:"want,omitempty"`
	Harm   string `json:"harm,omitempty"`
	Fix    string `json:"fix,omitempty"`
}

func (c *cli) setupCommand() *cobra.Command {
	var dryRun bool
	var old, archive string
	var limit jobs.Size
	command := &cobra.Command{
		Use:   "setup",
		Short: "Create the streams and the consumer of the pool where they are missing",
		Long: `Setup creates what is missing and reports what differs from what it would have created. It
never changes or deletes what stands.

With --take-over a pool that got another name carries on from the ledger of the old one: it knows
which jobs have ended, and which services have succeeded for the others. The replicas of the old pool
must be stopped; its consumer is removed. After a crash, run it again.

With --archive completion events are also kept in a stream HISTORY (HISTORY_<pool> with
ROLLCALL_DONE=own), for as long as you say, and events --since reads it.`,
		Example: `  worker setup --dry-run
  ROLLCALL_POOL=mail ROLLCALL_SUBJECTS=jobs.mail ROLLCALL_REPLICAS=3 worker setup
  worker setup --archive 30d
  ROLLCALL_POOL=mails ROLLCALL_SUBJECTS=jobs.mail worker setup --take-over mail`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := app.Load(c.env)
			if err != nil {
				return err
			}
			cfg.NATS = cfg.NATS.Operator()
			log := telemetry.NewLogger(telemetry.Config{Level: "error", Format: telemetry.FormatConsole}, c.stderr)
			opts := app.Options{Replica: "setup", Patience: commandPatience}
			if cmd.Flags().Changed("take-over") {
				if !app.ValidPool(old) {
					return usageError(fmt.Errorf("--take-over %q: want the old name of the pool, 1 to 64 letters, digits, _ and -", old))
				}
				plan, err := app.TakeOver(cmd.Context(), cfg, log, opts, old)
				if plan.Moved > 0 {
					fmt.Fprintf(c.stderr, "%d records of the ledger of pool %s were taken over.\n", plan.Moved, old)
				}
				if err != nil {
					return err
				}
				return c.printPlan(plan)
			}
			if cmd.Flags().Changed("archive-bytes") && archive == "" {
				return usageError(errors.New("--archive-bytes is for --archive"))
			}
			age, err := parseAge(archive)
			if err != nil {
				return usageError(err)
			}
			plan, err := app.Setup(cmd.Context(), cfg, log, opts, dryRun)
			if err != nil {
				return err
			}
			if age > 0 {
				archived, err := app.Archive(cmd.Context(), cfg, log, opts, age, limit, dryRun)
				if err != nil {
					return err
				}
				plan.Created = append(plan.Created, archived.Created...)
				plan.Differences = append(plan.Differences, archived.Differences...)
			}
			return c.printPlan(plan)
		},
	}
	command.Flags().BoolVar(&dryRun, "dry-run", false, "only show what is missing and what differs")
	command.Flags().StringVar(&old, "take-over", "", "carry on from the ledger of the pool that had this name")
	command.Flags().StringVar(&archive, "archive", "", "keep completion events for this long in the stream HISTORY, such as 30d or 720h")
	command.Flags().TextVar(&limit, "archive-bytes", jobs.Size(0), "max bytes of the archive, such as 10GiB, for accounts that require a limit; beyond it the oldest events are deleted; 0 = no limit")
	command.MarkFlagsMutuallyExclusive("take-over", "dry-run")
	command.MarkFlagsMutuallyExclusive("take-over", "archive")
	return command
}

// parseAge reads how long something is kept, in days or as a Go duration; 0 for an empty text.
func parseAge(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	const day = 24 * time.Hour
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n <= 3650 {
			return time.Duration(n) * day, nil
		}
	} else if age, err := time.ParseDuration(s); err == nil && age > 0 {
		return age, nil
	}
	return 0, fmt.Errorf("--archive %q: want how long events are kept, such as 30d or 720h", s)
}

func (c *cli) printPlan(plan app.Plan) error {
	steps := make([]step, 0, len(plan.Created)+len(plan.Differences))
	for _, object := range plan.Created {
		steps = append(steps, step{Object: object, Status: "created"})
	}
	for _, d := range plan.Differences {
		steps = append(steps, difference(d))
	}
	if len(steps) == 0 {
		fmt.Fprintln(c.stderr, "Everything is as it should be.")
		if c.output == table.Table {
			return nil
		}
	}
	err := table.All(c.printer(), steps,
		table.Col("object", func(s step) string { return s.Object }),
		table.Col("status", func(s step) string { return s.Status }),
		table.Col("field", func(s step) string { return s.Field }),
		table.Col("have", func(s step) string { return s.Have }),
		table.Col("want", func(s step) string { return s.Want }),
		table.Col("harm", func(s step) string { return s.Harm }),
		table.Col("fix", func(s step) string { return s.Fix }),
	)
	return errors.Join(err, bus.Refusal(plan.Differences))
}

func difference(d bus.Difference) step {
	if d.Missing {
		return step{Object: d.Object, Status: "missing", Harm: d.Harm}
	}
	s := step{Object: d.Object, Status: "differs", Field: d.Field, Have: d.Have, Want: d.Want, Harm: d.Harm}
	switch {
	case d.Harmless:
		s.Status = "harmless"
	case d.Fatal:
		s.Status, s.Fix = "refused", d.Fix
	default:
		s.Fix = d.Fix
	}
	return s
}
