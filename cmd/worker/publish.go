package main

import (
	"context"
	"errors"
	"fmt"
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
	postingFlags
	wait    bool
	timeout time.Duration
}

func (c *cli) publishCommand() *cobra.Command {
	var f publishFlags
	cmd := &cobra.Command{
		Use:   "publish SUBJECT [BODY]",
		Short: "Publish jobs, and wait for what becomes of them",
		Long: `Publish sends one job, or one for every line of JSON on standard input, and returns when the
broker has confirmed each. With --wait it prints the outcome of each job from its completion
event, and exits 1 if any did not succeed.

--id makes a job safe to publish again: the broker drops a second one of the same id within
two minutes. With several jobs, -1, -2 and so on is added to it, by their order. A delayed job
waits in the stream LATER under later.<id>; with --wait it is recognised by its id, so give it
one that no other job has.`,
		Example: `  worker publish jobs.mail '{"to":"ann"}' --wait
  worker publish jobs.mail --id import-7 < mails.ndjson
  worker publish jobs.report --file report.pdf --header Content-Type:application/pdf
  worker publish jobs.mail '{"to":"ann"}' --delay 2h --deadline 3h`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return c.publish(cmd.Context(), args, &f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.file, "file", "", "read the body of one job from this file, '-' for standard input")
	flags.IntVar(&f.count, "count", 1, "publish the job this many times")
	flags.Float64Var(&f.rate, "rate", 0, "jobs to publish per second; 0 = as fast as possible")
	flags.StringVar(&f.id, "id", "", "id of the job (Nats-Msg-Id); numbered when there are several")
	flags.StringVar(&f.deadline, "deadline", "", "when the job expires: RFC 3339, or how long from now")
	flags.DurationVar(&f.delay, "delay", 0, "hand the job out this much later")
	flags.StringArrayVar(&f.headers, "header", nil, "a header as Name:value; may be repeated")
	flags.BoolVar(&f.wait, "wait", false, "wait for the outcome of each job")
	flags.DurationVar(&f.timeout, "timeout", 0, "with --wait, give up after this long; 0 waits for ever")
	return cmd
}

func (c *cli) publish(ctx context.Context, args []string, f *publishFlags) error {
	bodies, numbered, err := c.bodies(ctx, args[1:], &f.postingFlags)
	if err != nil {
		return usageError(err)
	}
	p, err := newPosting(args[0], &f.postingFlags, numbered, time.Now())
	if err != nil {
		return usageError(err)
	}
	bodies = pace(ctx, f.rate, bodies)
	cl, err := c.connect(ctx, "publish")
	if err != nil {
		return err
	}
	defer cl.hangUp()
	stream := cl.cfg.Streams.Stream
	if f.delay > 0 {
		stream = bus.StreamLater
	}
	publisher, err := operate.NewPublisher(ctx, cl.Conn, stream)
	if err != nil {
		return err
	}
	if f.wait {
		return c.publishAndWait(ctx, cl, publisher, p.messages(bodies), f)
	}
	return c.publishOnly(ctx, publisher, p.messages(bodies))
}

// publishOnly prints a receipt for each job.
func (c *cli) publishOnly(ctx context.Context, publisher *operate.Publisher, source messages) error {
	out, n := table.NewRows(c.printer(), 0,
		table.Col("uid", func(r receipt) string { return r.UID }).Wide(uidWidth),
		table.Col("id", func(r receipt) string { return r.ID }),
		table.Col("subject", func(r receipt) string { return r.Subject }),
		table.Col("duplicate", func(r receipt) string { return strconv.FormatBool(r.Duplicate) }),
	), 0
	err := publisher.Publish(ctx, source, func(m *nats.Msg, r operate.Receipt) error {
		n++
		return out.Print(newReceipt(m, r))
	})
	return published(n, errors.Join(err, out.Close()))
}

func newReceipt(m *nats.Msg, r operate.Receipt) receipt {
	return receipt{UID: r.UID(), ID: messageID(m), Subject: m.Subject, Duplicate: r.Duplicate}
}

// published adds to a fault how far it came, and refuses an input without a job.
func published(n int, err error) error {
	switch {
	case errors.Is(err, operate.ErrNoStream) && n == 0:
		return notFound(err)
	case err != nil && n > 0:
		return fmt.Errorf("after %d confirmed jobs: %w", n, err)
	case err != nil:
		return err
	case n == 0:
		return usageError(errors.New("nothing to publish: standard input held no job"))
	}
	return nil
}
