package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	jobSubject = "jobs.bench"
	// pollEvery is how often the job stream is looked at: rarely enough to cost the broker
	// nothing, often enough to end a drain within a percent of its length.
	pollEvery = 5 * time.Millisecond
	// held is longer than any measurement.
	held = time.Hour
	// startIn is enough for the last preparations before the clock starts.
	startIn = 100 * time.Millisecond
)

// errBusy is returned when the broker does not come to rest.
var errBusy = errors.New("the broker is still busy; is something else using this machine?")

// drain lays out all jobs while the consumer is paused, then starts it and the clock.
func (l *Lab) drain(ctx context.Context, c Contender, s Spec) (Result, error) {
	if err := l.fillLedger(ctx, c, s.Ledger); err != nil {
		return Result{}, err
	}
	if _, err := l.js.PauseConsumer(ctx, jobStream, c.consumer, time.Now().Add(held)); err != nil {
		return Result{}, fmt.Errorf("pause consumer %s: %w", c.consumer, err)
	}
	if err := l.publishAll(ctx, s.Jobs, s.message); err != nil {
		return Result{}, err
	}
	if err := l.rest(ctx); err != nil {
		return Result{}, err
	}
	// Not by ResumeConsumer: nats-server 2.15 then serves waiting pulls at the next heartbeat
	// only, 15 s later, but at once where a pause runs out by itself.
	start := time.Now().Add(startIn)
	if _, err := l.js.PauseConsumer(ctx, jobStream, c.consumer, start); err != nil {
		return Result{}, fmt.Errorf("let consumer %s go: %w", c.consumer, err)
	}
	before, err := l.usage()
	if err != nil {
		return Result{}, err
	}
	if err := sleep(ctx, time.Until(start), l.replicas...); err != nil {
		return Result{}, err
	}
	if err := l.awaitEnd(ctx, c, s); err != nil {
		return Result{}, err
	}
	return l.finish(ctx, c, s, start, before)
}

// steady publishes at an even rate while the replicas work, and watches the events.
func (l *Lab) steady(ctx context.Context, c Contender, s Spec) (Result, error) {
	if err := l.fillLedger(ctx, c, s.Ledger); err != nil {
		return Result{}, err
	}
	seen := &sightings{}
	sub, err := l.nc.Subscribe(c.live, seen.add)
	if err != nil {
		return Result{}, fmt.Errorf("watch %s: %w", c.live, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection is closed next
	if err := l.rest(ctx); err != nil {
		return Result{}, err
	}
	before, err := l.usage()
	if err != nil {
		return Result{}, err
	}
	start := time.Now()
	sent, err := l.publishEvenly(ctx, s)
	if err != nil {
		return Result{}, err
	}
	if err := l.awaitEmpty(ctx); err != nil {
		return Result{}, err
	}
	result, err := l.finish(ctx, c, s, start, before)
	if err != nil {
		return Result{}, err
	}
	result.P50, result.P99, err = seen.percentiles(c, sent)
	return result, err
}

// idle watches replicas that have nothing to do.
func (l *Lab) idle(ctx context.Context, s Spec) (Result, error) {
	if err := l.rest(ctx); err != nil {
		return Result{}, err
	}
	before, err := l.usage()
	if err != nil {
		return Result{}, err
	}
	start := time.Now()
	if err := sleep(ctx, s.Idle, l.replicas...); err != nil {
		return Result{}, err
	}
	var r Result
	if err := l.account(&r, before); err != nil {
		return Result{}, err
	}
	r.Seconds = time.Since(start).Seconds()
	r.IdleCPU = r.WorkerCPU / 1e6 / r.Seconds * 100 / float64(len(l.replicas))
	r.WorkerCPU, r.BrokerCPU, r.ServicesCPU = 0, 0, 0 // there are no jobs to share it out over
	return r, nil
}

// finish stops the clock, takes the accounts and checks the events.
func (l *Lab) finish(ctx context.Context, c Contender, s Spec, start time.Time, before usage) (Result, error) {
	r := Result{Jobs: s.Jobs, Seconds: time.Since(start).Seconds()}
	r.JobsPerSecond = float64(s.Jobs) / r.Seconds
	if err := l.account(&r, before); err != nil {
		return Result{}, err
	}
	audit, err := l.audit(ctx, c, s.Jobs)
	if err != nil {
		return Result{}, err
	}
	r.Batches, r.Commits = audit.batches, audit.commits
	return r, nil
}

// awaitEmpty returns when no job is left in the stream.
func (l *Lab) awaitEmpty(ctx context.Context) error {
	stream, err := l.js.Stream(ctx, jobStream)
	if err != nil {
		return fmt.Errorf("look at the job stream: %w", err)
	}
	var left uint64
	for {
		info, err := stream.Info(ctx)
		if err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return fmt.Errorf("count the jobs left (last %d): %w", left, err)
		}
		if left = info.State.Msgs; left == 0 {
			return nil
		}
		if err := sleep(ctx, pollEvery, l.replicas...); err != nil {
			return fmt.Errorf("wait for the last of the jobs, %d are left: %w", left, err)
		}
	}
}

// rest waits until the broker has written down what was published.
func (l *Lab) rest(ctx context.Context) error {
	const window, quiet, tries = 50 * time.Millisecond, 0.1, 400
	last, err := l.broker.CPU()
	if err != nil {
		return fmt.Errorf("wait for the broker to rest: %w", err)
	}
	for range tries {
		if err := sleep(ctx, window, l.replicas...); err != nil {
			return fmt.Errorf("wait for the broker to rest: %w", err)
		}
		now, err := l.broker.CPU()
		if err != nil {
			return fmt.Errorf("wait for the broker to rest: %w", err)
		}
		if float64(now-last) < quiet*float64(window) {
			return nil
		}
		last = now
	}
	return errBusy
}

// sightings are live events with the time each was seen.
type sightings struct {
	mu   sync.Mutex
	list []sighting
}

type sighting struct {
	at   time.Time
	data []byte
}

func (s *sightings) add(m *nats.Msg) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, sighting{now, m.Data})
}

// errUnseen reports that live events are missing.
var errUnseen = errors.New("not every job was seen in a live event")

// percentiles returns the median and the 99th percentile of the time from publish to event,
// in milliseconds. sent holds the publish times by stream sequence, from 1.
func (s *sightings) percentiles(c Contender, sent []time.Time) (p50, p99 float64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var waits []float64
	for _, event := range s.list {
		jobs, err := c.final(event.data)
		if err != nil {
			return 0, 0, err
		}
		for _, seq := range jobs {
			waits = append(waits, float64(event.at.Sub(sent[seq-1]).Microseconds())/1e3)
		}
	}
	if len(waits) != len(sent) {
		return 0, 0, fmt.Errorf("%w: %d of %d", errUnseen, len(waits), len(sent))
	}
	slices.Sort(waits)
	return waits[len(waits)/2], waits[len(waits)*99/100], nil
}
