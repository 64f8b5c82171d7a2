package operate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"rollcall/internal/jobs"
)

const (
	// maxEarly bounds what is kept of jobs that may not be ours. The PubAck of a job is out
	// before its event, so the outcome of one of ours is not early for long.
	maxEarly = 1 << 16
	// hintAfter is how long a wait stays silent before it asks what holds the jobs up.
	hintAfter = 10 * time.Second
)

// ErrTimeout is returned when a wait took longer than it was given. The jobs go on.
var ErrTimeout = errors.New("the time given by --timeout is over; the jobs go on without this command")

// JobOutcome is what became of a job, and in which batch.
type JobOutcome struct {
	jobs.EventJob
	BatchID string `json:"batch_id"`
}

// Wait says how to wait for outcomes.
type Wait struct {
	// Timeout bounds the wait for outcomes once all is published; 0 has no bound.
	Timeout time.Duration
	// ByID matches outcomes by job id: the uid of a delayed job is not known before it is due.
	ByID bool
	// Silent is called once if nothing was heard for a while; nil for nothing.
	Silent func(ctx context.Context)
	// Each is called for the final outcome of every job, in the order of their ends.
	Each func(JobOutcome) error
}

// awaiter brings published jobs together with the events they end in, whichever is known
// first. It is safe for concurrent use.
type awaiter struct {
	byID bool
	each func(JobOutcome) error
	done chan struct{}

	mu sync.Mutex
	// wanted holds the jobs without an outcome.
	wanted map[string]bool
	// early and earlier hold final outcomes of jobs that nobody has asked for yet, in two
	// generations of at most maxEarly. Other producers' jobs are among them, so the older ones
	// are forgotten, and all as soon as every job is known.
	early, earlier map[string]JobOutcome

	complete bool
	failed   int
	err      error
}

func newAwaiter(byID bool, each func(JobOutcome) error) *awaiter {
	return &awaiter{byID: byID, each: each, done: make(chan struct{}), wanted: map[string]bool{}, early: map[string]JobOutcome{}}
}

// expect asks for the outcome of a job.
func (a *awaiter) expect(uid, id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	name := uid
	if a.byID {
		name = id
	}
	for _, early := range []map[string]JobOutcome{a.early, a.earlier} {
		if o, known := early[name]; known {
			delete(early, name)
			a.report(o)
			return
		}
	}
	a.wanted[name] = true
}

// hear reads one event.
func (a *awaiter) hear(stored Event) error {
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
		switch o := (JobOutcome{job, event.Data.BatchID}); {
		case a.wanted[name]:
			delete(a.wanted, name)
			a.report(o)
		case !a.complete:
			if len(a.early) >= maxEarly {
				a.early, a.earlier = map[string]JobOutcome{}, a.early
			}
			a.early[name] = o
		}
	}
	a.finish()
	return a.err
}

// setComplete marks that every job is known.
func (a *awaiter) setComplete() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.complete, a.early, a.earlier = true, nil, nil
	a.finish()
}

// report and finish want the lock held.
func (a *awaiter) report(o JobOutcome) {
	if o.Outcome != jobs.Succeeded {
		a.failed++
	}
	a.err = errors.Join(a.err, a.each(o))
}

func (a *awaiter) finish() {
	if !a.complete || len(a.wanted) > 0 {
		return
	}
	select {
	case <-a.done:
	default:
		close(a.done)
	}
}

// result is the error of the whole wait. waiting is why it ended early, nil if it did not.
func (a *awaiter) result(published int, waiting error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if waiting != nil {
		names := slices.Sorted(maps.Keys(a.wanted))
		return errors.Join(a.err, fmt.Errorf("%d of %d jobs have no outcome yet, among them %s: %w",
			len(names), published, strings.Join(names[:min(len(names), 3)], ", "), waiting))
	}
	if a.failed > 0 {
		return errors.Join(a.err, notSucceeded(a.failed, published))
	}
	return a.err
}

func notSucceeded(failed, published int) error {
	return fmt.Errorf("%d of %d jobs did not succeed", failed, published)
}

// PublishAndWait publishes the messages of source and waits for the outcome of each. It listens
// before it publishes, and it reads stored events, so that neither a quick pool nor a lost
// connection hides an outcome. It returns how many jobs the broker confirmed. The error wraps
// [ErrTimeout] if the time was not enough.
func (p *Publisher) PublishAndWait(ctx context.Context, source Messages, w Wait) (published int, err error) {
	events, a := NewEvents(p.conn), newAwaiter(w.ByID, w.Each)
	next, err := events.Next(ctx)
	if err != nil {
		return 0, err
	}
	listening, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	ended := make(chan error, 1)
	wg.Go(func() { ended <- events.Stored(listening, "*", next, true, a.hear) })

	seenBefore := false
	err = p.Publish(ctx, source, func(m *nats.Msg, r Receipt) error {
		published++
		seenBefore = seenBefore || r.Duplicate
		a.expect(r.UID(), MessageID(m))
		return nil
	})
	if published == 0 {
		return 0, err
	}
	if err != nil { // what is published has outcomes all the same
		err = fmt.Errorf("after %d confirmed jobs: %w", published, err)
	}
	if seenBefore {
		// A job that the broker had already may have ended before this began.
		if reading := events.Stored(ctx, "*", 0, false, a.hear); reading != nil {
			return published, errors.Join(err, fmt.Errorf("read the stored events: %w", reading))
		}
	}
	a.setComplete()
	return published, errors.Join(err, a.result(published, a.await(ctx, ended, w)))
}

// await returns nil when every outcome is known, else why they are not.
func (a *awaiter) await(ctx context.Context, ended <-chan error, w Wait) error {
	if w.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, w.Timeout, ErrTimeout)
		defer cancel()
	}
	silence := time.NewTimer(hintAfter)
	defer silence.Stop()
	for {
		select {
		case <-a.done:
			return nil
		case err := <-ended:
			if ctx.Err() == nil {
				return fmt.Errorf("the events have ended: %w", err)
			}
			return context.Cause(ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-silence.C:
			if w.Silent != nil {
				w.Silent(ctx)
			}
		}
	}
}
