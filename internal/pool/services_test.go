package pool_test

import (
	"context"
	"sync"
	"time"

	"rollcall/internal/jobs"
)

// service answers calls by a function.
type service struct {
	name     string
	optional bool
	answer   func(ctx context.Context, c *jobs.Call) jobs.CallResult
	// takes is the route; nil = all subjects.
	takes func(subject string) bool
}

func (s service) Name() string   { return s.name }
func (s service) Required() bool { return !s.optional }
func (s service) Batched() bool  { return true }
func (s service) Takes(subject string) bool {
	return s.takes == nil || s.takes(subject)
}
func (s service) Call(ctx context.Context, c *jobs.Call) jobs.CallResult {
	return s.answer(ctx, c)
}

// allOK answers ok for every job.
func allOK(_ context.Context, c *jobs.Call) jobs.CallResult {
	replies := make([]jobs.Reply, len(c.Jobs))
	for i := range replies {
		replies[i].Status = jobs.StatusOK
	}
	return jobs.CallResult{Replies: replies, Tries: 1}
}

// hang answers only when the call is cancelled.
func hang(ctx context.Context, _ *jobs.Call) jobs.CallResult {
	<-ctx.Done()
	return jobs.CallResult{Tries: 1, Failure: &jobs.Failure{Reason: jobs.ReasonCanceled, Err: context.Cause(ctx)}}
}

// after answers like answer once d has passed.
func after(d time.Duration, answer func(context.Context, *jobs.Call) jobs.CallResult) func(context.Context, *jobs.Call) jobs.CallResult {
	return func(ctx context.Context, c *jobs.Call) jobs.CallResult {
		select {
		case <-time.After(d):
			return answer(ctx, c)
		case <-ctx.Done():
			return hang(ctx, c)
		}
	}
}

// counter counts occurrences.
type counter struct {
	mu sync.Mutex
	n  map[jobs.Occurrence]int
	// results counts how batches ended.
	results map[jobs.BatchResult]int
	// panics is the service at whose calls it panics; panicked is the context of the last one.
	panics   string
	panicked context.Context
}

func newCounter() *counter {
	return &counter{n: map[jobs.Occurrence]int{}, results: map[jobs.BatchResult]int{}}
}

func (o *counter) ended(end jobs.BatchEnd) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.results[end.Result]++
}

func (o *counter) result(r jobs.BatchResult) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.results[r]
}

func (o *counter) Batch(ctx context.Context, _ *jobs.Batch) (context.Context, func(jobs.BatchEnd)) {
	return ctx, func(end jobs.BatchEnd) { o.ended(end) }
}

func (o *counter) Call(ctx context.Context, c *jobs.Call) (context.Context, func(*jobs.CallResult)) {
	if o.panics == c.Service {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.panicked = ctx
		panic("observer")
	}
	return ctx, func(*jobs.CallResult) {}
}

func (o *counter) Event(e jobs.Occurrence, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.n[e] += n
}

func (o *counter) of(e jobs.Occurrence) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.n[e]
}

const epoch = "dk3x0q1z7f4w"

func ref(seq uint64) jobs.Ref { return jobs.Ref{Epoch: epoch, Seq: seq} }

func delivery(seq uint64) jobs.Delivery {
	return jobs.Delivery{
		Subject: "jobs.test", Data: []byte(`{"n":1}`), Reply: "$JS.ACK", Source: "/rollcall/JOBS/" + epoch,
		Ref: ref(seq), Delivered: 1, Published: time.Now(),
	}
}

func deliveries(from, to uint64) (out []jobs.Delivery) {
	for seq := from; seq <= to; seq++ {
		out = append(out, delivery(seq))
	}
	return out
}
