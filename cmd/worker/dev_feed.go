package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/operate"
	"rollcall/internal/table"
)

const (
	// feedEvery is how often the feed prints a line, if anything happened.
	feedEvery = time.Second
	// troubleEvery is how often the feed asks the replicas for their services.
	troubleEvery = 2 * time.Second
)

// feed prints what goes on in a pool: a line per second in which batches ended, and one when a
// service gets into trouble or out of it.
type feed struct {
	out   io.Writer
	admin *operate.Admin

	mu      sync.Mutex
	batches int
	counts  jobs.Counts
	reason  string
	// ill holds the services in trouble.
	ill map[string]bool
}

func newFeed(out io.Writer, admin *operate.Admin) *feed {
	return &feed{out: out, admin: admin, ill: map[string]bool{}}
}

// run prints until ctx is done.
func (f *feed) run(ctx context.Context, events *operate.Events, pool string) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { f.every(ctx, feedEvery, f.print) })
	wg.Go(func() { f.every(ctx, troubleEvery, func() { f.look(ctx) }) })
	return events.Heard(ctx, pool, f.hear)
}

func (f *feed) every(ctx context.Context, d time.Duration, do func()) {
	ticker := time.NewTicker(d)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			do()
		case <-ctx.Done():
			return
		}
	}
}

// hear counts a batch.
func (f *feed) hear(e operate.Event) error {
	event, err := jobs.DecodeEvent(e.Data)
	if err != nil {
		return nil // somebody else's message on the subject of events
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := event.Data.Counts
	f.batches++
	f.counts.Succeeded += n.Succeeded
	f.counts.Failed += n.Dead()
	f.counts.Retrying += n.Retrying
	for i := range event.Data.Jobs {
		if j := &event.Data.Jobs[i]; j.Outcome != jobs.Succeeded && j.Reason != "" {
			f.reason = j.Reason
		}
	}
	return nil
}

// print prints the counts.
func (f *feed) print() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.batches == 0 {
		return
	}
	line := fmt.Sprintf("%s  %d succeeded, %d failed, %d to be retried, in %d batches", time.Now().Format("15:04:05"),
		f.counts.Succeeded, f.counts.Failed, f.counts.Retrying, f.batches)
	if f.reason != "" {
		line += "; last reason: " + jobs.Clip(f.reason, 100)
	}
	fmt.Fprintln(f.out, table.Clean(line))
	f.batches, f.counts, f.reason = 0, jobs.Counts{}, ""
}

// look prints which services got into trouble or out of it.
func (f *feed) look(ctx context.Context) {
	replicas, err := f.admin.Replicas(ctx)
	if err != nil {
		return // the end, or a broker that is away: the log says so
	}
	now := map[string]string{}
	for i := range replicas {
		for _, s := range replicas[i].Services {
			if s.Breaker != jobs.BreakerClosed {
				now[s.Name] = fmt.Sprintf("the breaker is %s, last error: %s", s.Breaker, jobs.Clip(s.LastError, 100))
			}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, trouble := range now {
		if !f.ill[name] {
			fmt.Fprintln(f.out, table.Clean(fmt.Sprintf("%s  service %s is in trouble: %s", time.Now().Format("15:04:05"), name, trouble)))
			f.ill[name] = true
		}
	}
	for name := range f.ill {
		if _, still := now[name]; !still {
			fmt.Fprintln(f.out, table.Clean(fmt.Sprintf("%s  service %s is well again", time.Now().Format("15:04:05"), name)))
			delete(f.ill, name)
		}
	}
}
