package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// Wait waits for d, or until ctx is done; then it returns the cause.
func Wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Jitter returns a duration between half of d and d: replicas that failed together must not
// come back together.
func Jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// Backoff doubles from Lo to Hi.
type Backoff struct {
	Lo, Hi time.Duration

	last time.Duration
}

// Next returns the next wait, with jitter; the first is about Lo.
func (b *Backoff) Next() time.Duration {
	b.last = min(max(b.Lo, 2*b.last), b.Hi)
	return Jitter(b.last)
}

// Last returns the wait that Next drew from last, without jitter; 0 before the first and after
// [Backoff.Reset].
func (b *Backoff) Last() time.Duration { return b.last }

// Reset starts again at Lo.
func (b *Backoff) Reset() { b.last = 0 }
