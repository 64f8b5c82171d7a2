package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/operate"
	"rollcall/internal/table"
)

func (c *cli) deadCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "dead",
		Short: "Dead letters: jobs that failed, expired or could not be read",
		Long: `Dead letters are kept for ROLLCALL_DEAD_AGE, 30 days by default, each under the number that
'worker dead ls' shows. They can be looked at, replayed as new jobs once the cause is fixed, or discarded.`,
		Example: `  worker dead ls --outcome failed --service billing
  worker dead replay --service billing`,
		Args: knownSubcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	command.AddCommand(c.deadListCommand(), c.deadShowCommand(), c.deadReplayCommand(), c.deadDiscardCommand())
	return command
}

// letterFlags choose dead letters.
type letterFlags struct {
	filter    operate.LetterFilter
	olderThan string
	newerThan string
	// older and newer are what those say.
	older, newer operate.Point
}

func (f *letterFlags) register(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&f.filter.Outcome, "outcome", "", "only this outcome: failed, expired or invalid")
	flags.StringVar(&f.filter.Service, "service", "", "only those that this service decided")
	flags.StringVar(&f.filter.Set, "set", "", "only members of this set")
	flags.StringVar(&f.filter.Reason, "reason", "", "only those whose reason holds this text")
	flags.StringVar(&f.filter.Subject, "subject", "", "only jobs of this subject; * and > as in NATS")
	flags.StringVar(&f.olderThan, "older-than", "", "only those that failed before then: RFC 3339, or how long ago")
	flags.StringVar(&f.newerThan, "newer-than", "", "only those that failed after then: RFC 3339, or how long ago")
}

// check reads the flags and returns what is wrong with them.
func (f *letterFlags) check() (err error) {
	outcomes := []string{"", jobs.Failed.String(), jobs.Expired.String(), jobs.Invalid.String()}
	if !slices.Contains(outcomes, f.filter.Outcome) {
		return fmt.Errorf("--outcome %q: want failed, expired or invalid", f.filter.Outcome)
	}
	if f.filter.Set != "" && !jobs.ValidSet(f.filter.Set) {
		return fmt.Errorf("--set %q: %w", f.filter.Set, operate.ErrSetName)
	}
	if f.filter.Subject != "" {
		if err := jobs.CheckFilter(f.filter.Subject); err != nil {
			return fmt.Errorf("--subject: %w", err)
		}
	}
	if f.older, err = operate.Earlier("older-than", f.olderThan); err != nil {
		return err
	}
	f.newer, err = operate.Earlier("newer-than", f.newerThan)
	return err
}

// everything reports whether the flags choose every letter.
func (f *letterFlags) everything() bool {
	return f.filter.Empty() && f.older.IsZero() && f.newer.IsZero()
}

// at is the filter when it is now.
func (f *letterFlags) at(now time.Time) operate.LetterFilter {
	filter := f.filter
	filter.Before, filter.After = f.older.From(now), f.newer.From(now)
	return filter
}

func (c *cli) deadListCommand() *cobra.Command {
	var f letterFlags
	var limit int
	command := &cobra.Command{
		Use:        "ls",
		SuggestFor: []string{"list"},
		Short:      "List dead letters, the oldest first",
		Example: `  worker dead ls
  worker dead ls --reason declined --newer-than 1h
  worker dead ls --set import-7
  worker dead ls --subject 'jobs.mail.>' -o jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(f.check(), negative("limit", limit)); err != nil {
				return usageError(err)
			}
			return c.administer(cmd.Context(), "dead ls", false, func(ctx context.Context, cl *client, a *operate.Admin) error {
				now, err := a.Now(ctx)
				if err != nil {
					return err
				}
				return c.listLetters(ctx, cl.cfg.Pool, a, f.at(now), now, limit)
			})
		},
	}
	f.register(command)
	command.Flags().IntVar(&limit, "limit", 0, "end after this many; 0 has no end")
	return command
}

func negative(flag string, n int) error {
	if n >= 0 {
		return nil
	}
	return fmt.Errorf("--%s %d: want 0 or more", flag, n)
}

// listBlock is how many rows of a list are held back for their columns to be aligned.
const listBlock = 1000

func (c *cli) listLetters(ctx context.Context, pool string, a *operate.Admin, filter operate.LetterFilter, now time.Time, limit int) error {
	out := table.NewRows(c.printer(), listBlock, letterColumns(now)...)
	err := a.Letters(ctx, filter, func(l bus.Letter) error {
		if err := out.Print(l); err != nil {
			return err
		}
		if out.Printed() == limit {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	if err == nil && out.Printed() == 0 {
		fmt.Fprintf(c.stderr, "No dead letters of pool %s.\n", pool)
	}
	return errors.Join(err, out.Close())
}

func letterColumns(now time.Time) []table.Column[bus.Letter] {
	return []table.Column[bus.Letter]{
		table.Col("number", func(l bus.Letter) string { return strconv.FormatUint(l.Seq, 10) }),
		table.Col("age", func(l bus.Letter) string { return table.Age(now.Sub(l.FailedAt)) }),
		table.Col("outcome", letterOutcome),
		table.Col("subject", func(l bus.Letter) string { return l.Subject }),
		table.Col("service", letterServices),
		table.Col("attempts", func(l bus.Letter) string { return strconv.Itoa(l.Attempts) }),
		table.Col("job", func(l bus.Letter) string { return l.UID }),
		table.Col("reason", func(l bus.Letter) string { return jobs.Clip(l.Reason, 100) }),
	}
}

// letterOutcome is how the job ended, by the letter and by what was committed.
func letterOutcome(l bus.Letter) string {
	switch l.Elsewhere {
	case "":
		return l.Outcome
	case jobs.Retrying:
		return l.Outcome + ", but goes on"
	default:
		return l.Outcome + ", but " + l.Elsewhere.String() + " elsewhere"
	}
}

// letterServices names the services that the job failed at: all of them where the event is
// stored, else the one that decided.
func letterServices(l bus.Letter) string {
	var names []string
	for name, status := range l.Services {
		if status != jobs.StatusOK.String() && l.Elsewhere == "" {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return l.Service
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// fullLetter is a dead letter with everything in it.
type fullLetter struct {
	bus.Letter
	// Header is without what the broker adds to every message it reads out.
	Header map[string][]string `json:"header"`
	// Body is the text, or base64 where it is none; Encoding then says so.
	Body     string `json:"body"`
	Encoding string `json:"encoding,omitempty"`
}

func newFullLetter(l bus.Letter, m *nats.Msg) fullLetter {
	full := fullLetter{Letter: l, Header: maps.Clone(m.Header), Body: string(m.Data)}
	maps.DeleteFunc(full.Header, func(name string, _ []string) bool { return strings.HasPrefix(name, "Nats-") })
	if !utf8.Valid(m.Data) {
		full.Body, full.Encoding = base64.StdEncoding.EncodeToString(m.Data), "base64"
	}
	return full
}

func (c *cli) deadShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show NUMBER",
		Short:   "Print one dead letter with its headers and body",
		Example: "  worker dead show 12\n  worker dead show 12 -o json | jq -r .body",
		Args:    words(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			seqs, err := letterNumbers(args)
			if err != nil {
				return usageError(err)
			}
			return c.administer(cmd.Context(), "dead show", false, func(ctx context.Context, _ *client, a *operate.Admin) error {
				l, m, err := a.Letter(ctx, seqs[0])
				if err != nil {
					return err
				}
				full := newFullLetter(l, m)
				return table.One(c.printer(), full, fullColumns(&full)...)
			})
		},
	}
}

func fullColumns(l *fullLetter) []table.Column[fullLetter] {
	var columns []table.Column[fullLetter]
	row := func(title, text string) {
		if text != "" {
			columns = append(columns, table.Col(title, func(fullLetter) string { return text }))
		}
	}
	row("number", strconv.FormatUint(l.Seq, 10))
	row("job", l.UID)
	row("id", l.ID)
	row("subject", l.Subject)
	row("outcome", letterOutcome(l.Letter))
	if l.ElsewhereBatch != "" {
		row("ended in", l.ElsewhereBatch)
	}
	row("reason", l.Reason)
	row("service", letterServices(l.Letter))
	row("attempts", strconv.Itoa(l.Attempts))
	row("batch", l.BatchID)
	row("failed", table.Moment(l.FailedAt))
	if l.Truncated {
		row("cut", "body or headers are not whole: it cannot be replayed")
	}
	names := make([]string, 0, len(l.Header))
	for name := range l.Header {
		if !strings.HasPrefix(name, "Rollcall-") || strings.EqualFold(name, jobs.HeaderDeadline) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		row("header "+name, strings.Join(l.Header[name], ", "))
	}
	row("body"+strings.TrimSuffix(" ("+l.Encoding+")", " ()"), l.Body)
	return columns
}

// letterNumbers reads the numbers of dead letters.
func letterNumbers(args []string) (seqs []uint64, err error) {
	for _, arg := range args {
		n, err := strconv.ParseUint(arg, 10, 64)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("%q is not the number of a dead letter; 'worker dead ls' shows them", arg)
		}
		seqs = append(seqs, n)
	}
	return seqs, nil
}
