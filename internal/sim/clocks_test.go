package sim_test

import (
	"context"
	"time"

	"rollcall/internal/jobs"
)

const (
	// lookEvery is how often a replica looks at something that carries the broker's time.
	lookEvery = 5 * time.Second
	// clockSlack is how far a time may be off that goes by the broker's clock, besides what the
	// replies of the broker leave open.
	clockSlack = time.Second
	// shortAge is the greatest age of jobs in some worlds.
	shortAge = 10 * time.Minute
)

// skew draws how far a clock is wrong.
func (d *dice) skew() time.Duration {
	return []time.Duration{0, time.Minute, -time.Minute, 5 * time.Minute, -5 * time.Minute}[d.between(0, 4)]
}

// now is the broker's clock.
func (w *world) now() time.Time { return time.Now().Round(0).Add(w.ahead) }

// wall is the replica's own clock.
func (r *replica) wall() time.Time { return time.Now().Add(r.skew) }

// watchClock looks at the broker now and then, for its time.
func (r *replica) watchClock(ctx context.Context) {
	for ctx.Err() == nil {
		_, _ = r.Floor(ctx) // one that fails teaches nothing
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
		}
	}
}

// dated takes in a reply of the broker that carries its time, asked for at a moment of the
// replica's clock.
func (r *replica) dated(asked, stamped time.Time) {
	received := r.wall()
	r.clock.Observe(asked, stamped, received)
	margin := received.Sub(asked) / 2
	r.world.mu.Lock()
	defer r.world.mu.Unlock()
	if best, known := r.world.margins[r.name]; !known || margin < best {
		r.world.margins[r.name] = margin
	}
}

// slack is how far the clock of a replica may be off; of any, if name is empty. The caller holds
// the lock.
func (w *world) slack(name string) time.Duration {
	if name != "" {
		return clockSlack + w.margins[name]
	}
	most := time.Duration(0)
	for _, margin := range w.margins {
		most = max(most, margin)
	}
	return clockSlack + most
}

// deadlines gives a deadline to some jobs: the n-th of a burst has what the returned function adds.
func (n *nemesis) deadlines(jobsOfBurst int) func(i int, d *jobs.Delivery) {
	after := make([]time.Duration, jobsOfBurst)
	if n.dice.between(0, 3) == 0 {
		for i := range after {
			after[i] = n.dice.upTo(4 * time.Minute)
		}
	}
	return func(i int, d *jobs.Delivery) {
		if after[i] > 0 {
			d.Header[jobs.HeaderDeadline] = []string{d.Published.Add(after[i]).UTC().Format(time.RFC3339Nano)}
		}
	}
}

// born notes when a job was published and when it has to end. The caller holds the lock.
func (w *world) born(d *jobs.Delivery) {
	uid := d.Ref.UID()
	w.publishedAt[uid] = d.Published
	delete(w.deadlines, uid)
	if w.maxAge > 0 {
		w.deadlines[uid] = d.Published.Add(w.maxAge)
	}
	if text := d.Header[jobs.HeaderDeadline]; text != nil {
		at, err := jobs.ParseTime(text[0])
		if err != nil {
			w.violation("the deadline %s: %v", text[0], err)
		}
		if due, limited := w.deadlines[uid]; !limited || at.Before(due) {
			w.deadlines[uid] = at
		}
	}
}

// expired judges a job that ended because its time was over. The caller holds the lock.
func (w *world) expired(replica, uid string) {
	due, limited := w.deadlines[uid]
	if early := due.Sub(w.now()); !limited || early > w.slack(replica) {
		w.violation("%s has job %s expire %v before its time", replica, uid, early)
	}
}

// late judges that the calls for a batch begin while its jobs may still be done. The caller holds
// the lock.
func (w *world) late(replica string, begun time.Time, c *jobs.Call) {
	if first, known := w.begun[c.BatchID]; known {
		begun = first
	}
	w.begun[c.BatchID] = begun
	for _, j := range c.Jobs {
		if j.Received.Before(w.setBackAt) {
			continue // its number may be another job's by now
		}
		if due, limited := w.deadlines[j.UID]; limited && begun.Sub(due) > w.slack(replica) {
			w.violation("%s calls for %s, which expired %v ago", replica, j.UID, begun.Sub(due))
		}
	}
}

// datedEvent judges the times in an event. The caller holds the lock.
func (w *world) datedEvent(e *jobs.Event) {
	slack := w.slack(e.Data.Replica)
	if early := e.Data.SettledAt.Sub(w.now()); early > slack {
		w.violation("event %s is dated %v after it was stored", e.ID, early)
	}
	if e.Data.DurationMS < 0 {
		w.violation("batch %s took %v ms", e.ID, e.Data.DurationMS)
	}
	for i := range e.Data.Jobs {
		if early := w.publishedAt[e.Data.Jobs[i].UID].Sub(e.Data.SealedAt); early > slack {
			w.violation("batch %s was sealed %v before its job %s was published", e.ID, early, e.Data.Jobs[i].UID)
		}
	}
}

// datedSet judges the times in the event of a set. The caller holds the lock.
func (w *world) datedSet(s *set, e *jobs.SetEvent) {
	slack := w.slack("")
	early, late := s.born.Sub(e.Data.SettledAt), e.Data.SettledAt.Sub(w.now())
	if off := e.Data.FirstAt.Sub(s.born).Abs(); off > slack || early > slack || late > slack {
		w.violation("set %s, published at %v, ended by %v, is dated %v to %v", e.ID, s.born, w.now(), e.Data.FirstAt, e.Data.SettledAt)
	}
}
