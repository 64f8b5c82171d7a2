package telemetry

import (
	"context"

	"rollcall/internal/jobs"
)

// Observer is told what the pool does; it is the pool's own interface of that name.
type Observer interface {
	Batch(ctx context.Context, b *jobs.Batch) (context.Context, func(jobs.BatchEnd))
	Call(ctx context.Context, c *jobs.Call) (context.Context, func(*jobs.CallResult))
	Event(e jobs.Occurrence, n int)
}

// Chain is several observers as one. Beginnings are told in order, so that each sees the
// context of those before it; ends in the reverse order.
type Chain []Observer

// Batch tells every observer that a batch begins; the returned function tells them its end.
func (c Chain) Batch(ctx context.Context, b *jobs.Batch) (context.Context, func(jobs.BatchEnd)) {
	ends := make([]func(jobs.BatchEnd), len(c))
	for i, o := range c {
		ctx, ends[i] = o.Batch(ctx, b)
	}
	return ctx, func(end jobs.BatchEnd) {
		for i := len(ends) - 1; i >= 0; i-- {
			ends[i](end)
		}
	}
}

// Call tells every observer that a call begins; the returned function tells them its end.
func (c Chain) Call(ctx context.Context, call *jobs.Call) (context.Context, func(*jobs.CallResult)) {
	ends := make([]func(*jobs.CallResult), len(c))
	for i, o := range c {
		ctx, ends[i] = o.Call(ctx, call)
	}
	return ctx, func(r *jobs.CallResult) {
		for i := len(ends) - 1; i >= 0; i-- {
			ends[i](r)
		}
	}
}

// Event tells every observer.
func (c Chain) Event(e jobs.Occurrence, n int) {
	for _, o := range c {
		o.Event(e, n)
	}
}
