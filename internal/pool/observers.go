package pool

import (
	"context"

	"rollcall/internal/jobs"
)

// Observers are several observers as one. They see beginnings in order, each with the context
// of those before it, and ends in the reverse order.
type Observers []Observer

// Batch implements [Observer].
func (o Observers) Batch(ctx context.Context, b *jobs.Batch) (context.Context, func(jobs.BatchEnd)) {
	ends := make([]func(jobs.BatchEnd), len(o))
	for i, each := range o {
		ctx, ends[i] = each.Batch(ctx, b)
	}
	return ctx, func(end jobs.BatchEnd) {
		for i := len(ends) - 1; i >= 0; i-- {
			ends[i](end)
		}
	}
}

// Call implements [Observer].
func (o Observers) Call(ctx context.Context, call *jobs.Call) (context.Context, func(*jobs.CallResult)) {
	ends := make([]func(*jobs.CallResult), len(o))
	for i, each := range o {
		ctx, ends[i] = each.Call(ctx, call)
	}
	return ctx, func(r *jobs.CallResult) {
		for i := len(ends) - 1; i >= 0; i-- {
			ends[i](r)
		}
	}
}

// Event implements [Observer].
func (o Observers) Event(e jobs.Occurrence, n int) {
	for _, each := range o {
		each.Event(e, n)
	}
}
