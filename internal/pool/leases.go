package pool

import (
	"slices"
	"sync"
	"time"

	"rollcall/internal/jobs"
)

// leases knows when the leases of the jobs that are held run out. All are renewed together, so one
// moment stands for them all; a later job counts from when it was received.
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

// renew extends every lease. A job that was held for longer than its lease without an extension is
// lost: the broker has given it to another replica, or will as soon as it is back.
func (d *dispatcher) renew(now time.Time) {
	lapsed := func(members []*jobs.Job) bool { return d.pool.leases.lapsed(members, now) }
	for f := range d.flying {
		if lapsed(f.batch.Jobs) {
			f.move(stateLost)
		}
	}
	d.ready = slices.DeleteFunc(d.ready, func(f *flight) bool {
		gone := lapsed(f.batch.Jobs)
		if gone {
			d.ground(f)
		}
		return gone
	})
	for _, members := range d.batcher.Remove(lapsed) {
		d.lose(members)
	}
	d.lose(d.suspects.remove(lapsed))
	if d.extendAll() {
		d.pool.leases.renew(now)
	}
	d.start()
}

// extendAll extends the lease of everything held and reports whether all went out.
func (d *dispatcher) extendAll() bool {
	sent := true
	d.everything(func(members []*jobs.Job) {
		for _, j := range members {
			sent = sent && d.pool.parts.Settler.Extend(&j.Delivery) == nil
		}
	})
	return sent
}

// lose releases unstarted jobs whose lease is over.
func (d *dispatcher) lose(members []*jobs.Job) {
	if len(members) == 0 {
		return
	}
	d.account(members)
	d.forget(members)
}

// account reports lost leases and writes their ends down once the broker is back. It is safe for
// concurrent use.
func (d *dispatcher) account(lost []*jobs.Job) {
	d.pool.parts.Observer.Event(jobs.LeaseLost, len(lost))
	d.tasks.Go(d.pool.executor.accountLater(d.accounting, lost))
}

func (d *dispatcher) forget(members []*jobs.Job) {
	d.inHand -= len(members)
	d.held.remove(members)
	d.pool.gate.release(members)
}
