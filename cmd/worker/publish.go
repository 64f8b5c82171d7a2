package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"rollcall/internal/bus"
	"rollcall/internal/operate"
	"rollcall/internal/table"
)

// uidWidth is that of most uids: an epoch, a dot, and a sequence below ten million.
const uidWidth = 20

// receipt is a job that the broker holds.
type receipt struct {
	UID       string `json:"uid"`
	ID        string `json:"id,omitempty"`
	Subject   string `json:"subject"`
	Duplicate bool   `json:"duplicate,omitempty"`
}

// publishFlags are the flags of publish.
type publishFlags struct {
	file     string
	count    int
	rate     float64
	deadline string
	posting  operate.Posting
	wait     bool
	timeout  time.Duration
	strict   bool
}

func (c *cli) publishCommand() *cobra.Command {
	var f publishFlags
	cmd := &cobra.Command{
		Use:   "publish SUBJECT [BODY]",
		Short: "Publish jobs, and wait for their outcomes",
		Long: `Publish sends one job, or one for every line of JSON on standard input, and returns when the
broker has confirmed each. With --wait it prints the outcome of each job from its completion
event, and exits 1 if any did not succeed.

--id makes a job safe to publish again: the broker drops a second one of the same id within
two minutes. With several jobs, -1, -2 and so on is added to it, by their order. A delayed job
waits in the stream LATER under later.<id>; with --wait it is recognised by its id, so give it
one that no other job has.

--unique KEY publishes to SUBJECT.KEY, and only if no job of that key is open there: until it has
ended, others are left out. --debounce KEY keeps the newest of the delayed jobs of a key.`,
		Example: `  worker publish jobs.mail '{"to":"ann"}' --wait
  worker publish jobs.mail --id import-7 < mails.ndjson
  worker publish jobs.report --file report.pdf --header Content-Type:application/pdf
  worker publish jobs.mail '{"to":"ann"}' --delay 2h --deadline 3h
  worker publish jobs.row --set import-7 --set-size 5000 < rows.ndjson
  worker publish jobs.sync '{}' --unique tenant-4
  worker publish jobs.reindex '{}' --debounce tenant-4 --delay 5s`,
		Args: words(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("set-size") && f.posting.SetSize == 0 {
				return usageError(errors.New("--set-size 0: want how many members the set has, 1 or more"))
			}
			return c.publish(cmd.Context(), args, &f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.file, "file", "", "read the body of one job from this file, '-' for standard input")
	flags.IntVar(&f.count, "count", 1, "publish the job this many times")
	flags.Float64Var(&f.rate, "rate", 0, "jobs to publish per second; 0 = as fast as possible")
	flags.StringVar(&f.posting.ID, "id", "", "id of the job (Nats-Msg-Id); numbered when there are several")
	flags.StringVar(&f.deadline, "deadline", "", "when the job expires: RFC 3339, or how long from now")
	flags.DurationVar(&f.posting.Delay, "delay", 0, "hand the job out this much later")
	flags.StringVar(&f.posting.Set, "set", "", "make the jobs members of this set")
	flags.IntVar(&f.posting.SetSize, "set-size", 0, "how many members the set has in all")
	flags.StringVar(&f.posting.Unique, "unique", "", "publish only if no job of this key is open; else say so and exit 0")
	flags.BoolVar(&f.strict, "strict", false, "with --unique, exit 1 if a job of the key is open")
	flags.StringVar(&f.posting.Debounce, "debounce", "", "of the delayed jobs of this key keep the newest; needs --delay")
	flags.StringArrayVar(&f.posting.Headers, "header", nil, "a header as Name:value; may be repeated")
	flags.BoolVar(&f.wait, "wait", false, "wait for the outcome of each job")
	flags.DurationVar(&f.timeout, "timeout", 0, "with --wait, give up after this long; 0 waits for ever")
	return cmd
}

func (c *cli) publish(ctx context.Context, args []string, f *publishFlags) error {
	bodies, numbered, err := c.bodies(ctx, args[1:], f)
	if err != nil {
		return usageError(err)
	}
	p := &f.posting
	p.Subject, p.Numbered = args[0], numbered
	if f.timeout < 0 {
		return usageError(fmt.Errorf("--timeout %v: want how long to wait, such as 30s; 0 waits for ever", f.timeout))
	}
	if f.strict && p.Unique == "" {
		return usageError(errors.New("--strict is for --unique"))
	}
	if p.Deadline, err = operate.Later("deadline", f.deadline); err != nil {
		return usageError(err)
	}
	if err := p.Prepare(); err != nil {
		return usageError(err)
	}
	bodies = pace(ctx, f.rate, bodies)
	cl, err := c.connect(ctx, "publish")
	if err != nil {
		return err
	}
	defer cl.hangUp()
	if cl.cfg.Streams.Source == bus.SourceCore {
		return c.publishCore(ctx, cl, bodies, f)
	}
	clock, err := cl.admin().Clock(ctx)
	if err != nil {
		return err
	}
	stream := cl.cfg.Streams.Stream
	if p.Delay > 0 {
		stream = bus.StreamLater
	}
	publisher, err := operate.NewPublisher(ctx, cl.Conn, stream)
	switch {
	case errors.Is(err, bus.ErrDenied) && !f.wait:
		fmt.Fprintln(c.stderr, "This user may not look at stream "+stream+": uids are not known; --id gives jobs an id to find them by.")
	case err != nil:
		return err
	}
	if f.wait {
		return c.waitFor(cl, f, func(w operate.Wait) (int, error) {
			return publisher.PublishAndWait(ctx, p.Messages(clock, bodies), w)
		})
	}
	out := c.receipts()
	err = publisher.Publish(ctx, p.Messages(clock, bodies), func(m *nats.Msg, r operate.Receipt) error {
		return out.Print(receipt{UID: r.UID(), ID: operate.MessageID(m), Subject: m.Subject, Duplicate: r.Duplicate})
	})
	if errors.Is(err, operate.ErrOpen) {
		return errors.Join(c.leftOut(err, f), out.Close())
	}
	return published(out.Printed(), errors.Join(err, out.Close()))
}

// leftOut says that a job was left out because one of its key is open, which is a fault only if
// --strict says so.
func (c *cli) leftOut(err error, f *publishFlags) error {
	if !errors.Is(err, operate.ErrOpen) || f.strict {
		return err
	}
	fmt.Fprintln(c.stderr, table.CleanLines("Not published: a job of the key "+f.posting.Unique+" is open."))
	return nil
}

// publishCore publishes where there is no stream.
func (c *cli) publishCore(ctx context.Context, cl *client, bodies iter.Seq2[[]byte, error], f *publishFlags) error {
	if f.posting.Unique != "" {
		return usageError(errors.New("--unique: whether a job is open is known to a stream, and ROLLCALL_SOURCE=core has none"))
	}
	if f.posting.Delay > 0 {
		return usageError(errors.New("--delay: a delayed job waits in a stream, and ROLLCALL_SOURCE=core has none"))
	}
	source := f.posting.Messages(operate.NewClock(time.Now()), bodies)
	publisher := operate.NewCorePublisher(cl.Conn)
	if f.wait {
		return c.waitFor(cl, f, func(w operate.Wait) (int, error) { return publisher.PublishAndWait(ctx, source, w) })
	}
	out := c.receipts()
	err := publisher.Publish(ctx, source, func(m *nats.Msg) error {
		return out.Print(receipt{ID: operate.MessageID(m), Subject: m.Subject})
	})
	return published(out.Printed(), errors.Join(err, out.Close()))
}

// receipts prints a line for each job that the broker holds.
func (c *cli) receipts() *table.Rows[receipt] {
	return table.NewRows(c.printer(), 0,
		table.Col("uid", func(r receipt) string { return r.UID }).Wide(uidWidth),
		table.Col("id", func(r receipt) string { return r.ID }),
		table.Col("subject", func(r receipt) string { return r.Subject }),
		table.Col("duplicate", func(r receipt) string { return strconv.FormatBool(r.Duplicate) }),
	)
}

// waitFor publishes by work and prints the outcome of each job.
func (c *cli) waitFor(cl *client, f *publishFlags, work func(operate.Wait) (int, error)) error {
	out := table.NewRows(c.printer(), 0,
		table.Col("uid", func(o operate.JobOutcome) string { return o.UID }).Wide(uidWidth),
		table.Col("id", func(o operate.JobOutcome) string { return o.ID }),
		table.Col("outcome", func(o operate.JobOutcome) string { return o.Outcome.String() }).Wide(9),
		table.Col("attempt", func(o operate.JobOutcome) string { return strconv.Itoa(o.Attempt) }),
		table.Col("reason", func(o operate.JobOutcome) string { return o.Reason }),
	)
	n, err := work(operate.Wait{
		Timeout: f.timeout, ByID: f.posting.Delay > 0, Each: out.Print,
		Silent: func(ctx context.Context) {
			fmt.Fprintln(c.stderr, table.CleanLines("still waiting: "+cl.admin().Hindrance(ctx)))
		},
	})
	if errors.Is(err, operate.ErrOpen) {
		return errors.Join(c.leftOut(err, f), out.Close())
	}
	err = errors.Join(err, out.Close())
	if n == 0 || errors.Is(err, operate.ErrNobody) {
		return published(0, err)
	}
	return err
}

// published adds to a fault how far it came, and refuses an input without a job.
func published(n int, err error) error {
	switch {
	case (errors.Is(err, operate.ErrNoStream) || errors.Is(err, operate.ErrNobody)) && n == 0:
		return notFound(err)
	case errors.Is(err, operate.ErrTooLate):
		return usageError(err)
	case err != nil && n > 0:
		return fmt.Errorf("after %d confirmed jobs: %w", n, err)
	case err != nil:
		return err
	case n == 0:
		return usageError(errors.New("nothing to publish: standard input held no job"))
	}
	return nil
}
