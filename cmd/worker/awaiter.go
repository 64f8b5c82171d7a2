package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"rollcall/internal/jobs"
	"rollcall/internal/operate"
	"rollcall/internal/table"
)

// maxEarly bounds what is kept of jobs that may not be ours. The PubAck of a job is out before
// its event, so the outcome of one of ours is not early for long.
const maxEarly = 1 << 16

// suspicion is how long publish --wait stays silent before it asks whether a worker runs.
const suspicion = 10 * time.Second

// outcome is what became of a job, and in which batch.
type outcome struct {
	jobs.EventJob
	BatchID string `json:"batch_id"`
}

// awaiter brings published jobs together with the events they end in, whichever is known
// first. It is safe for concurrent use.
type awaiter struct {
	out *table.Rows[outcome]
	// byID matches by job id: the uid of a delayed job is not known before it is due.
	byID bool
	done chan struct{}

	mu sync.Mutex
	// wanted holds the jobs without an outcome.
	wanted map[string]bool
	// early and earlier hold final outcomes of jobs that nobody has asked for yet, in two
	// generations of at most maxEarly. Other producers' jobs are among them, so the older ones
	// are forgotten, and all as soon as every job is known.
	early, earlier map[string]outcome

	sealed bool
	failed int
	err    error
}

func newAwaiter(c *cli, byID bool) *awaiter {
	return &awaiter{
		byID: byID, done: make(chan struct{}), wanted: map[string]bool{}, early: map[string]outcome{},
		out: table.NewRows(c.printer(), 0,
			table.Col("uid", func(o outcome) string { return o.UID }).Wide(uidWidth),
			table.Col("id", func(o outcome) string { return o.ID }),
			table.Col("outcome", func(o outcome) string { return o.Outcome.String() }).Wide(9),
			table.Col("attempt", func(o outcome) string { return strconv.Itoa(o.Attempt) }),
			table.Col("reason", func(o outcome) string { return o.Reason }),
		),
	}
}

// expect asks for the outcome of a job.
func (a *awaiter) expect(job receipt) {
	a.mu.Lock()
	defer a.mu.Unlock()
	name := job.UID
	if a.byID {
		name = job.ID
	}
	for _, early := range []map[string]outcome{a.early, a.earlier} {
		if o, known := early[name]; known {
			delete(early, name)
			a.print(o)
			return
		}
	}
	a.wanted[name] = true
}

// settle reads one event.
func (a *awaiter) settle(stored operate.Event) error {
	event, err := jobs.DecodeEvent(stored.Data)
	if err != nil {
		return fmt.Errorf("event %s: %w", stored.BatchID, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, job := range event.Data.Jobs {
		if !job.Final() {
			continue
		}
		name := job.UID
		if a.byID {
			name = job.ID
		}
		switch o := (outcome{job, event.Data.BatchID}); {
		case a.wanted[name]:
			delete(a.wanted, name)
			a.print(o)
		case !a.sealed:
			if len(a.early) >= maxEarly {
				a.early, a.earlier = map[string]outcome{}, a.early
			}
			a.early[name] = o
		}
	}
	a.finish()
	return a.err
}

// seal tells that every job is known.
func (a *awaiter) seal() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sealed, a.early, a.earlier = true, nil, nil
	a.finish()
}

// print and finish want the lock held.
func (a *awaiter) print(o outcome) {
	if o.Outcome != jobs.Succeeded {
		a.failed++
	}
	a.err = errors.Join(a.err, a.out.Print(o))
}

func (a *awaiter) finish() {
	if !a.sealed || len(a.wanted) > 0 {
		return
	}
	select {
	case <-a.done:
	default:
		close(a.done)
	}
}

// verdict is the error of the whole command. waiting is why the wait ended early, nil if it
// did not.
func (a *awaiter) verdict(published int, waiting error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := errors.Join(a.err, a.out.Close())
	if waiting != nil {
		names := slices.Sorted(maps.Keys(a.wanted))
		return errors.Join(err, fmt.Errorf("%d of %d jobs have no outcome yet, among them %s: %w",
			len(names), published, strings.Join(names[:min(len(names), 3)], ", "), waiting))
	}
	if a.failed > 0 {
		err = errors.Join(err, fmt.Errorf("%d of %d jobs did not succeed", a.failed, published))
	}
	return err
}

// publishAndWait prints the outcome of each job. It listens before it publishes, and it reads
// stored events, so that neither a quick pool nor a lost connection hides an outcome.
func (c *cli) publishAndWait(ctx context.Context, cl *client, publisher *operate.Publisher, source messages, f *publishFlags) error {
	events, w := operate.NewEvents(cl.Conn), newAwaiter(c, f.delay > 0)
	next, err := events.Next(ctx)
	if err != nil {
		return err
	}
	listening, hush := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer hush()
	heard := make(chan error, 1)
	wg.Go(func() { heard <- events.Stored(listening, "*", next, true, w.settle) })

	n, seenBefore := 0, false
	err = publisher.Publish(ctx, source, func(m *nats.Msg, r operate.Receipt) error {
		n++
		seenBefore = seenBefore || r.Duplicate
		w.expect(newReceipt(m, r))
		return nil
	})
	if err := published(n, err); err != nil {
		return errors.Join(err, w.out.Close())
	}
	if seenBefore {
		// A job that the broker had already may have ended before this command began.
		if err := events.Stored(ctx, "*", 0, false, w.settle); err != nil {
			return fmt.Errorf("read the stored events: %w", err)
		}
	}
	w.seal()
	return w.verdict(n, c.await(ctx, w, heard, f.timeout))
}

var errTimeout = errors.New("the time given by --timeout is over; the jobs go on without this command")

// await returns nil when every outcome is known, else why they are not.
func (c *cli) await(ctx context.Context, w *awaiter, heard <-chan error, timeout time.Duration) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, errTimeout)
		defer cancel()
	}
	silence := time.NewTimer(suspicion)
	defer silence.Stop()
	for {
		select {
		case <-w.done:
			return nil
		case err := <-heard:
			if ctx.Err() == nil {
				return fmt.Errorf("the events have ended: %w", err)
			}
			return context.Cause(ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-silence.C:
			fmt.Fprintln(c.stderr, "still waiting; is a worker of this subject's pool running?")
		}
	}
}
