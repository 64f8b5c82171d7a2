package bus

import (
	"context"
	"math/rand/v2"
	"time"
)

// pause waits for d, or until ctx is done; then it returns the cause.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// jitter returns something between half of d and d: replicas that failed together must not
// come back together.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// backoff doubles from lo to hi.
type backoff struct{ lo, hi, next time.Duration }

func (b *backoff) reset() { b.next = 0 }

// step returns the next pause, with jitter.
func (b *backoff) step() time.Duration {
	b.next = min(max(b.lo, 2*b.next), b.hi)
	return jitter(b.next)
}
