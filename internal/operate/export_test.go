package operate

import (
	"context"
	"time"
)

// MaxEarly is maxEarly.
const MaxEarly = maxEarly

// Awaiter is awaiter for the tests.
type Awaiter struct{ a *awaiter }

// NewAwaiter is newAwaiter.
func NewAwaiter(byID bool, each func(JobOutcome) error) Awaiter {
	return Awaiter{newAwaiter(byID, each)}
}

// Expect is awaiter.expect.
func (w Awaiter) Expect(uid, id string) { w.a.expect(uid, id) }

// Hear is awaiter.hear.
func (w Awaiter) Hear(e Event) error { return w.a.hear(e) }

// SetComplete is awaiter.setComplete.
func (w Awaiter) SetComplete() { w.a.setComplete() }

// Kept is how many outcomes of other producers' jobs are remembered.
func (w Awaiter) Kept() int { return len(w.a.early) + len(w.a.earlier) }

// Result is awaiter.result.
func (w Awaiter) Result(published int, waiting error) error { return w.a.result(published, waiting) }

// Done reports whether every outcome is known.
func (w Awaiter) Done() bool {
	select {
	case <-w.a.done:
		return true
	default:
		return false
	}
}

// Forecast judges the room for events, see [Doctor].
var Forecast = forecast

// ScheduleTimes is Schedule.times.
func ScheduleTimes(s *Schedule, now time.Time) { s.times(now) }

// Redacted is redacted.
var Redacted = redacted

// EndWithoutRemoving cancels a job as a command does that dies before the job's message is removed.
func (a *Admin) EndWithoutRemoving(ctx context.Context, id string) error {
	return a.cancelling(ctx, "dead", func(ctx context.Context, c *canceller) error {
		m, err := a.stored(ctx, c.stream, id)
		if err != nil {
			return err
		}
		j := decodeStored(m, c.epoch)
		return c.commit(ctx, &j)
	})
}

// CancelAfter cancels a job that is open, after meanwhile: as a command does that is slower than a
// replica.
func (a *Admin) CancelAfter(ctx context.Context, id string, meanwhile func()) error {
	return a.cancelling(ctx, "late", func(ctx context.Context, c *canceller) error {
		m, err := a.stored(ctx, c.stream, id)
		if err != nil {
			return err
		}
		meanwhile()
		return c.cancel(ctx, m)
	})
}
