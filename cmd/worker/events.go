package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"rollcall/internal/jobs"
	"rollcall/internal/operate"
	"rollcall/internal/table"
)

// eventLine is an event as it is printed: byte for byte in JSON, a summary in a table.
type eventLine struct {
	raw   json.RawMessage
	event jobs.Event
}

// MarshalJSON implements json.Marshaler.
func (l eventLine) MarshalJSON() ([]byte, error) { return l.raw, nil }

// eventsFlags are the flags of events.
type eventsFlags struct {
	since   string
	all     bool
	follow  bool
	outcome string
	count   int
}

func (c *cli) eventsCommand() *cobra.Command {
	var f eventsFlags
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Follow the completion events of the pool",
		Long: `Events prints one line per batch as it is committed, of the pool named by ROLLCALL_POOL, until
Ctrl-C. With -o jsonl it prints the events themselves, CloudEvents in JSON, one a line. --all
and --since begin with those that are stored; the server keeps them for ROLLCALL_DONE_AGE, and
an archive (worker setup --archive) for as long as it was made for.`,
		Example: `  worker events
  worker events --since 1h --outcome partial
  worker events --all --follow=false -o jsonl > events.ndjson`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.events(cmd.Context(), &f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.since, "since", "", "begin with stored events from then on: RFC 3339, or how long ago")
	flags.BoolVar(&f.all, "all", false, "begin with all stored events")
	flags.BoolVar(&f.follow, "follow", true, "go on with new events; needs --all or --since if false")
	flags.StringVar(&f.outcome, "outcome", "", "only batches of this outcome: succeeded, partial or failed")
	flags.IntVar(&f.count, "count", 0, "end after this many events; 0 has no end")
	return cmd
}

// errEnough ends the reading of events in good order.
var errEnough = errors.New("enough events")

func (c *cli) events(ctx context.Context, f *eventsFlags) error {
	if err := f.check(); err != nil {
		return usageError(err)
	}
	from, err := operate.Earlier("since", f.since)
	if err != nil {
		return usageError(err)
	}
	cl, err := c.connect(ctx, "events")
	if err != nil {
		return err
	}
	defer cl.hangUp()
	events := operate.NewEvents(cl.Conn)
	since := time.Time{}
	if !from.IsZero() {
		clock, err := events.Clock(ctx)
		if err != nil {
			return err
		}
		since = from.From(clock.Now())
	}
	if f.follow {
		c.hintAtUnknownPool(ctx, cl)
	}
	out := table.NewRows(c.printer(), 0, eventColumns()...)
	printed := 0
	each := func(stored operate.Event) error {
		if f.outcome != "" && string(stored.Outcome) != f.outcome || stored.Time.Before(since) {
			return nil
		}
		event, err := jobs.DecodeEvent(stored.Data)
		if err != nil {
			return fmt.Errorf("event %s: %w", stored.BatchID, err)
		}
		if err := out.Print(eventLine{raw: stored.Data, event: event}); err != nil {
			return err
		}
		if printed++; printed == f.count {
			return errEnough
		}
		return nil
	}
	switch {
	case f.since != "":
		err = events.Since(ctx, cl.cfg.Pool, since, f.follow, each)
	case f.all:
		err = events.Stored(ctx, cl.cfg.Pool, 0, f.follow, each)
	default:
		err = events.Heard(ctx, cl.cfg.Pool, each)
	}
	if errors.Is(err, errEnough) || ctx.Err() != nil {
		err = nil // both are the end that was asked for
	}
	return errors.Join(err, out.Close())
}

// hintAtUnknownPool says so if there is no such pool: the wait for its events might never end.
func (c *cli) hintAtUnknownPool(ctx context.Context, cl *client) {
	known, err := cl.admin().Known(ctx)
	if err == nil && !known {
		fmt.Fprintf(c.stderr, "There is no pool %q yet (ROLLCALL_POOL): no consumer, no replica, no event. Waiting for its first.\n", cl.cfg.Pool)
	}
}

// check returns what is wrong with the flags.
func (f *eventsFlags) check() error {
	outcomes := []string{"", string(jobs.BatchSucceeded), string(jobs.BatchPartial), string(jobs.BatchFailed)}
	switch {
	case !slices.Contains(outcomes, f.outcome):
		return fmt.Errorf("--outcome %q: want succeeded, partial or failed", f.outcome)
	case f.count < 0:
		return fmt.Errorf("--count %d: want 0 or more", f.count)
	case f.all && f.since != "":
		return errors.New("--all and --since are both given: keep one")
	case !f.follow && !f.all && f.since == "":
		return errors.New("--follow=false needs stored events to print: add --all or --since")
	}
	return nil
}

func eventColumns() []table.Column[eventLine] {
	number := func(title string, of func(jobs.Counts) int) table.Column[eventLine] {
		return table.Col(title, func(l eventLine) string { return strconv.Itoa(of(l.event.Data.Counts)) })
	}
	return []table.Column[eventLine]{
		table.Col("time", func(l eventLine) string { return l.event.Time.Local().Format("2006-01-02 15:04:05.000") }),
		table.Col("batch", func(l eventLine) string { return l.event.ID }),
		table.Col("outcome", func(l eventLine) string { return l.event.Subject }).Wide(9),
		table.Col("seal", func(l eventLine) string { return string(l.event.Data.Seal) }),
		number("jobs", func(n jobs.Counts) int { return n.Total }),
		number("ok", func(n jobs.Counts) int { return n.Succeeded }),
		number("dead", func(n jobs.Counts) int { return n.Dead() }),
		number("retrying", func(n jobs.Counts) int { return n.Retrying }),
		table.Col("ms", func(l eventLine) string { return strconv.FormatFloat(l.event.Data.DurationMS, 'f', 1, 64) }),
	}
}
