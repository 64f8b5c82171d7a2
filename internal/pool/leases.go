package pool

import (
	"sync"
	"time"

	"rollcall/internal/jobs"
)

// leases knows when the leases of what is held run out. All are renewed together, so one moment
// stands for them all; a job that came later counts from when it was received.
type leases struct {
	// length is how long the broker waits for a settlement, at the moment.
	length func() time.Duration

	mu      sync.Mutex
	renewed time.Time
}

// lapsed reports whether the lease of the oldest of members is over, whatever was sent since: a
// process that was stopped wakes up with leases that the broker has given to others.
func (l *leases) lapsed(members []*jobs.Job, now time.Time) bool {
	if len(members) == 0 {
		return false
	}
	oldest := members[0].Received
	for _, j := range members {
		if j.Received.Before(oldest) {
			oldest = j.Received
		}
	}
	return l.over(oldest, now)
}

// over reports whether the lease of a job received then is over.
func (l *leases) over(received, now time.Time) bool {
	l.mu.Lock()
	since := l.renewed
	l.mu.Unlock()
	if received.After(since) {
		since = received
	}
	return elapsed(since, now) >= l.length()
}

func (l *leases) renew(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewed = now
}

// elapsed is the time between two moments by the clock that went further: the monotonic one stands
// still while a machine sleeps, the other one may be set back.
func elapsed(since, now time.Time) time.Duration {
	return max(now.Sub(since), now.Round(0).Sub(since.Round(0)))
}
