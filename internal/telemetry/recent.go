package telemetry

import (
	"context"
	"slices"
	"sync"
	"time"

	"rollcall/internal/jobs"
)

const (
	// recentBatches is how many ended batches are remembered.
	recentBatches = 50
	// recentSeconds is how far back the rates reach.
	recentSeconds = 300
)

// Recent remembers what a replica did a moment ago, for a person who looks on. It implements
// the pool's Observer, and its memory is bounded.
type Recent struct {
	now func() time.Time

	mu      sync.Mutex
	batches [recentBatches]jobs.BatchSummary
	ended   int
	seconds [recentSeconds]jobs.Tally
	// second is the Unix second that was counted last.
	second int64
	// skipped counts jobs that were not routed to a service, by its name.
	skipped map[string]int
}

// NewRecent returns one that remembers nothing yet. now is the clock, nil for the system's.
func NewRecent(now func() time.Time) *Recent {
	if now == nil {
		now = time.Now
	}
	return &Recent{now: now, second: now().Unix(), skipped: map[string]int{}}
}

// Batch remembers a batch once it has ended.
func (r *Recent) Batch(ctx context.Context, b *jobs.Batch) (context.Context, func(jobs.BatchEnd)) {
	summary := jobs.BatchSummary{
		ID: b.ID, Seal: b.Seal, SealedAt: b.SealedAt, Counts: jobs.Counts{Total: len(b.Jobs)}, TraceID: traceID(b.Traceparent),
	}
	return ctx, func(end jobs.BatchEnd) {
		summary.EndedAt = r.now()
		summary.Duration = jobs.Millis(summary.EndedAt.Sub(summary.SealedAt))
		summary.Result = end.Result
		if s := end.Settlement; s != nil {
			summary.Outcome, summary.Counts = s.Outcome, jobs.Count(s.Rulings)
			summary.Services = slices.Clone(s.Services)
		}
		r.note(summary)
	}
}

// traceID is the second field of a traceparent; empty if there is none.
func traceID(traceparent string) string {
	const begin, end = len("00-"), len("00-") + 32
	if len(traceparent) < end {
		return ""
	}
	return traceparent[begin:end]
}

func (r *Recent) note(b jobs.BatchSummary) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches[r.ended%recentBatches] = b
	r.ended++
	if b.Result != jobs.BatchCommitted {
		return
	}
	for i := range b.Services {
		if n := b.Services[i].Skipped; n > 0 {
			r.skipped[b.Services[i].Name] += n
		}
	}
	second := r.advance()
	second.Succeeded += b.Counts.Succeeded
	second.Dead += b.Counts.Dead()
	second.Retrying += b.Counts.Retrying
}

// advance forgets the seconds that have fallen out of the window and returns the current one.
func (r *Recent) advance() *jobs.Tally {
	now := r.now().Unix()
	for range min(max(now-r.second, 0), recentSeconds) {
		r.second++
		r.seconds[r.second%recentSeconds] = jobs.Tally{}
	}
	r.second = max(r.second, now)
	return &r.seconds[r.second%recentSeconds]
}

// Call remembers nothing.
func (r *Recent) Call(ctx context.Context, _ *jobs.Call) (context.Context, func(*jobs.CallResult)) {
	return ctx, func(*jobs.CallResult) {}
}

// Event remembers nothing.
func (r *Recent) Event(jobs.Occurrence, int) {}

// Batches returns the batches that ended last, the latest first.
func (r *Recent) Batches() []jobs.BatchSummary {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(r.ended, recentBatches)
	last := make([]jobs.BatchSummary, 0, n)
	for i := range n {
		last = append(last, r.batches[(r.ended-1-i)%recentBatches])
	}
	return last
}

// Skipped returns how many jobs of committed batches were not routed to a service.
func (r *Recent) Skipped(service string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.skipped[service]
}

// Seconds returns the last n whole seconds, the oldest first.
func (r *Recent) Seconds(n int) []jobs.Tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.advance()
	n = min(n, recentSeconds-1)
	window := make([]jobs.Tally, 0, n)
	for i := range n {
		window = append(window, r.seconds[(r.second-1-int64(i)+recentSeconds)%recentSeconds])
	}
	slices.Reverse(window)
	return window
}
