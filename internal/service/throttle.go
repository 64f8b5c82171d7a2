package service

import (
	"context"
	"sync"
	"time"
)

// Bounds of the pace of a service that answers 429 and does not say for how long: the time
// between two requests doubles at a 429 and shrinks by a quarter at each success.
const (
	paceStart = 50 * time.Millisecond
	paceMax   = 5 * time.Second
	paceNone  = 10 * time.Millisecond
)

// throttle spaces out the requests to a service that asked for fewer.
type throttle struct {
	mu sync.Mutex
	// until is when the service allows the next request.
	until time.Time
	// pace is the least time between two requests; 0 = no limit.
	pace time.Duration
	// next is when the next request may go by the pace.
	next time.Time
	// slowed is when the pace last became slower: answers to requests that were sent before
	// count once.
	slowed time.Time
}

// admit waits for the turn of a request, at most patience. It returns how long the next one has
// to wait if that is too long, 0 if the request may go.
func (t *throttle) admit(ctx context.Context, patience time.Duration) time.Duration {
	wait, ok := t.turn(time.Now(), patience)
	if !ok {
		return wait
	}
	if wait > 0 {
		_ = sleep(ctx, wait) // the call finds out by itself that ctx is done
	}
	return 0
}

// sleep waits for d. It returns an error at once when ctx is done.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// turn reserves a place in the line.
func (t *throttle) turn(now time.Time, patience time.Duration) (wait time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if wait := t.until.Sub(now); wait > 0 {
		return wait, false
	}
	if t.pace == 0 {
		return 0, true
	}
	at := now
	if t.next.After(now) {
		at = t.next
	}
	if wait = at.Sub(now); wait > patience {
		return wait, false
	}
	t.next = at.Add(t.pace)
	return wait, true
}

// slow notes a 429 to a request sent at the given time.
func (t *throttle) slow(now, sent time.Time, after time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if until := now.Add(after); after > 0 && until.After(t.until) {
		t.until = until
	}
	if after > 0 || sent.Before(t.slowed) {
		return
	}
	t.slowed = now
	t.pace = min(max(2*t.pace, paceStart), paceMax)
	t.next = now.Add(t.pace)
}

// easy notes a request that was not refused.
func (t *throttle) easy() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pace -= t.pace / 4; t.pace < paceNone {
		t.pace = 0
	}
}

// current returns the pace.
func (t *throttle) current() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pace
}
