package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"rollcall/internal/operate"
	"rollcall/internal/table"
)

func (c *cli) scheduleCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "schedule",
		Short: "Schedules: jobs that the broker publishes again and again",
		Long: `A schedule is kept by the broker, in the stream LATER, and goes on while no worker runs. Times that
were missed while the broker was away become one job. It needs nats-server 2.15.`,
		Example: `  worker schedule set nightly jobs.report '{"kind":"sales"}' --cron '0 0 3 * * *' --tz Europe/Berlin
  worker schedule ls`,
		Args: knownSubcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	command.AddCommand(c.scheduleSetCommand(), c.scheduleListCommand(), c.scheduleRunCommand(), c.scheduleRemoveCommand())
	return command
}

// scheduleFlags are the flags of schedule set.
type scheduleFlags struct {
	cron, at, zone, file string
	every                time.Duration
	headers              []string
}

func (c *cli) scheduleSetCommand() *cobra.Command {
	var f scheduleFlags
	command := &cobra.Command{
		Use:   "set NAME SUBJECT [BODY]",
		Short: "Set a schedule; one of the same name is replaced",
		Long: `Set has the broker publish a job by a cron expression of six fields, the first of which is the
second, at an interval, or once at a time. Without --tz a cron expression is in UTC.`,
		Example: `  worker schedule set nightly jobs.report '{"kind":"sales"}' --cron '0 0 3 * * *' --tz Europe/Berlin
  worker schedule set pulse jobs.ping --every 5m
  worker schedule set launch jobs.mail --file launch.json --at 2026-12-01T09:00:00Z`,
		Args: words(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := c.scheduledBody(args[2:], f.file)
			if err != nil {
				return usageError(err)
			}
			return c.administer(cmd.Context(), "schedule set", true, func(ctx context.Context, cl *client, a *operate.Admin) error {
				cl.Tolerate(cl.API("STREAM.INFO.")) // a user without the right to look may still publish
				clock, err := a.Clock(ctx)
				if err != nil {
					return err
				}
				at, err := operate.Later("at", f.at)
				if err != nil {
					return usageError(err)
				}
				s, err := operate.NewSchedule(args[0], args[1], f.cron, f.every, at.From(clock.Now()), f.zone)
				if err != nil {
					return usageError(err)
				}
				if err := a.SetSchedule(ctx, s, f.headers, body); err != nil {
					return err
				}
				fmt.Fprintf(c.stderr, "Schedule %s is set; 'worker schedule ls' shows when it is due.\n", table.Clean(s.Name))
				return nil
			})
		},
	}
	flags := command.Flags()
	flags.StringVar(&f.cron, "cron", "", "by a cron expression of six fields, seconds first, or @daily and its like")
	flags.DurationVar(&f.every, "every", 0, "at this interval, a second or more")
	flags.StringVar(&f.at, "at", "", "once: RFC 3339, or how long from now")
	flags.StringVar(&f.zone, "tz", "", "time zone of --cron, such as Europe/Berlin")
	flags.StringVar(&f.file, "file", "", "read the body from this file, '-' for standard input")
	flags.StringArrayVar(&f.headers, "header", nil, "a header as Name:value; may be repeated")
	return command
}

// scheduledBody is the body of a scheduled job: the argument, a file, or nothing.
func (c *cli) scheduledBody(args []string, file string) (body []byte, err error) {
	switch {
	case len(args) > 0 && file != "":
		return nil, errors.New("BODY and --file are both given: keep one")
	case len(args) > 0:
		return []byte(args[0]), nil
	case file == "-":
		body, err = io.ReadAll(c.stdin)
	case file != "":
		body, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, fmt.Errorf("read the job: %w", err)
	}
	return body, nil
}

func (c *cli) scheduleListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Short:   "List schedules, with the time that each is due next and was due last",
		Example: "  worker schedule ls\n  worker schedule ls -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.administer(cmd.Context(), "schedule ls", true, func(ctx context.Context, _ *client, a *operate.Admin) error {
				list, err := a.Schedules(ctx)
				if err != nil {
					return err
				}
				if len(list) == 0 {
					fmt.Fprintln(c.stderr, "No schedules.")
				}
				return table.All(c.printer(), list,
					table.Col("name", func(s operate.Schedule) string { return s.Name }),
					table.Col("subject", func(s operate.Schedule) string { return s.Subject }),
					table.Col("schedule", func(s operate.Schedule) string { return s.Pattern }),
					table.Col("tz", func(s operate.Schedule) string { return cmp.Or(s.Zone, "UTC") }),
					table.Col("next", func(s operate.Schedule) string { return table.Moment(s.Next) }),
					table.Col("last", func(s operate.Schedule) string { return table.Moment(s.Last) }))
			})
		},
	}
}

func (c *cli) scheduleRunCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "run NAME",
		Short:   "Publish the job of a schedule now, beside its times",
		Example: "  worker schedule run nightly",
		Args:    words(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.administer(cmd.Context(), "schedule run", true, func(ctx context.Context, _ *client, a *operate.Admin) error {
				r, subject, err := a.RunSchedule(ctx, args[0])
				if err != nil {
					return err
				}
				return table.One(c.printer(), receipt{UID: r.UID(), Subject: subject}, table.Col("uid", func(r receipt) string { return r.UID }))
			})
		},
	}
}

func (c *cli) scheduleRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rm NAME",
		Short:   "Remove a schedule; jobs that it has published stay",
		Example: "  worker schedule rm nightly",
		Args:    words(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.administer(cmd.Context(), "schedule rm", true, func(ctx context.Context, _ *client, a *operate.Admin) error {
				if err := a.RemoveSchedule(ctx, args[0]); err != nil {
					return err
				}
				fmt.Fprintf(c.stderr, "Schedule %s is removed.\n", table.Clean(args[0]))
				return nil
			})
		},
	}
}
