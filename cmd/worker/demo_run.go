package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"rollcall/internal/bus"
	"rollcall/internal/history"
	"rollcall/internal/jobs"
	"rollcall/internal/operate"
	"rollcall/internal/retry"
)

const (
	// watchEvery is how often the demo looks at its counters.
	watchEvery = 50 * time.Millisecond
	// settleWithin is how long the broker may take to drop the jobs whose events it holds.
	settleWithin = 15 * time.Second
)

// tally counts jobs as the demo runs. It is safe for concurrent use.
type tally struct {
	published atomic.Int64
	final     atomic.Int64
	changed   chan struct{}
}

func newTally() *tally { return &tally{changed: make(chan struct{}, 1)} }

func (t *tally) end(n int) {
	t.final.Add(int64(n))
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// publish sends the jobs and returns those that the broker confirmed: all of them.
func (d *trial) publish(ctx context.Context, cl *client) ([]history.Job, error) {
	publisher, err := operate.NewPublisher(ctx, cl.Conn, cl.cfg.Streams.Stream)
	if err != nil {
		return nil, err
	}
	sentAt := make([]time.Time, d.flags.jobs)
	source := func(yield func(*nats.Msg, error) bool) {
		d.begun = time.Now()
		for n := range d.flags.jobs {
			if !d.pace(ctx, n) {
				return
			}
			sentAt[n] = time.Now()
			if !yield(demoJob(n), nil) {
				return
			}
		}
	}
	accepted := make([]history.Job, 0, d.flags.jobs)
	err = publisher.Publish(ctx, source, func(m *nats.Msg, r operate.Receipt) error {
		uid := r.Ref.UID()
		d.sent[uid] = sentAt[len(accepted)]
		accepted = append(accepted, history.Job{
			UID: uid, ID: operate.MessageID(m), Source: "/rollcall/" + cl.cfg.Streams.Stream + "/" + r.Ref.Epoch,
		})
		d.tally.published.Add(1)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("publish the demo's jobs: %w", err)
	}
	return accepted, nil
}

// pace waits until the n-th job is due and reports whether it still is to be sent.
func (d *trial) pace(ctx context.Context, n int) bool {
	if d.flags.rate == 0 {
		return ctx.Err() == nil
	}
	due := d.begun.Add(time.Duration(float64(n) / d.flags.rate * float64(time.Second)))
	return retry.Wait(ctx, time.Until(due)) == nil
}

func demoJob(n int) *nats.Msg {
	kinds := [...]string{"mail", "invoice", "thumbnail"}
	return &nats.Msg{
		Subject: "jobs." + kinds[n%len(kinds)],
		Header:  nats.Header{jobs.HeaderMsgID: {fmt.Sprintf("demo-%06d", n+1)}},
		Data:    fmt.Appendf(nil, `{"number":%d,"customer":"c-%03d","amount":%d.%02d}`, n+1, n%997, n%500, n%100),
	}
}

// follow counts final jobs as their events are committed.
func (d *trial) follow(ctx context.Context, cl *client, fail context.CancelCauseFunc) {
	err := operate.NewEvents(cl.Conn).Stored(ctx, cl.cfg.Pool, 0, true, func(stored operate.Event) error {
		event, err := jobs.DecodeEvent(stored.Data)
		if err != nil {
			return err
		}
		n := event.Data.Counts
		d.tally.end(n.Total - n.Retrying)
		return nil
	})
	if err != nil && ctx.Err() == nil {
		fail(fmt.Errorf("follow the events: %w", err))
	}
}

// awaitEnd returns when every job is final and gone from the stream, or when nothing has moved
// for long: what is missing then shows in what is read back.
func (d *trial) awaitEnd(ctx context.Context, cl *client) error {
	patience := time.NewTimer(d.patience)
	defer patience.Stop()
	for d.tally.final.Load() < int64(d.flags.jobs) {
		select {
		case <-d.tally.changed:
			patience.Reset(d.patience)
		case <-patience.C:
			fmt.Fprintf(d.c.stderr, "nothing has become final for %s; checking what is there\n", d.patience)
			d.ended = time.Now()
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	d.ended = time.Now()
	return d.awaitEmpty(ctx, cl)
}

// awaitEmpty returns when the broker has taken in the acks, which follow the events.
func (d *trial) awaitEmpty(ctx context.Context, cl *client) error {
	admin := cl.admin()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for begun := time.Now(); time.Since(begun) < settleWithin; {
		backlog, err := admin.Backlog(ctx)
		if err != nil {
			return err
		}
		if d.left = backlog.Stored; d.left == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// readBack collects what the run left in the streams and in the services' journals.
func (d *trial) readBack(ctx context.Context, cl *client, accepted []history.Job) (*history.History, error) {
	h := &history.History{Accepted: accepted, AtRest: true, Calm: true, Calls: d.around.Calls()}
	err := operate.NewEvents(cl.Conn).Stored(ctx, cl.cfg.Pool, 0, false, func(stored operate.Event) error {
		event, err := jobs.DecodeEvent(stored.Data)
		if err != nil {
			return err
		}
		h.Events = append(h.Events, history.Event{Event: event, Stored: stored.Time})
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = cl.admin().Letters(ctx, operate.LetterFilter{}, func(l bus.Letter) error {
		h.DeadLetters = append(h.DeadLetters, l.UID)
		return nil
	})
	return h, err
}

var errViolations = errors.New("the demo broke a promise")
