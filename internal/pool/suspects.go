package pool

import (
	"time"

	"rollcall/internal/jobs"
)

// suspects are jobs that may be crashing the process, or have only shared one with such a job. They
// are called for in groups of their own, one group at a time, beside ordinary work. A group that
// ends without a record comes back in halves, so that the culprit is alone after a few crashes
// and the others are free again.
type suspects struct {
	limits  Limits
	key     Key
	waiting []*jobs.Job
	// turn alternates between suspects and ordinary batches where both wait for the same slot.
	turn bool
}

func (s *suspects) add(j *jobs.Job) { s.waiting = append(s.waiting, j) }

// bound is how large the group of a job may be: half a batch at first.
func (s *suspects) bound(j *jobs.Job) int {
	if j.Record.Group > 0 {
		return min(j.Record.Group, s.limits.Jobs)
	}
	return max(s.limits.Jobs/2, 1)
}

// alone reports whether the next group has to be the only thing that is called for: a job that has
// been alone before, and ended without a record, must not be blamed for what another one does.
func (s *suspects) alone() bool {
	return len(s.waiting) > 0 && s.waiting[0].Record.Lone > 0 && s.bound(s.waiting[0]) == 1
}

// next takes a group: the oldest job and those with the same bound and key, as far as they fit.
func (s *suspects) next() (group []*jobs.Job) {
	first := s.waiting[0]
	bound, key := s.bound(first), s.key.Of(first)
	g, weight := gathering{}, s.limits.Weight()
	rest := s.waiting[:0:0]
	for _, j := range s.waiting {
		if len(g.jobs) < bound && s.bound(j) == bound && s.key.Of(j) == key && (len(g.jobs) == 0 || g.fits(j, &s.limits, weight)) {
			g.add(j)
		} else {
			rest = append(rest, j)
		}
	}
	s.waiting = rest
	return g.jobs
}

// remove drops the jobs whose lease is lost and returns them.
func (s *suspects) remove(lost func([]*jobs.Job) bool) (gone []*jobs.Job) {
	rest := s.waiting[:0:0]
	for _, j := range s.waiting {
		if lost([]*jobs.Job{j}) {
			gone = append(gone, j)
		} else {
			rest = append(rest, j)
		}
	}
	s.waiting = rest
	return gone
}

// drain takes all that wait.
func (s *suspects) drain() []*jobs.Job {
	all := s.waiting
	s.waiting = nil
	return all
}

// nextGroup seals a group of suspects where one may be called for now: none is under way, and it
// is their turn. It returns nil otherwise; wait reports that nothing else may start before one can.
func (d *dispatcher) nextGroup(now time.Time) (f *flight, wait bool) {
	s := &d.suspects
	if d.group != nil || len(s.waiting) == 0 || (s.turn && len(d.ready) > 0) {
		return nil, false
	}
	alone := s.alone()
	if alone && d.calling > 0 {
		return nil, true
	}
	members := s.next()
	f = newFlight(d.pool.newBatch(members, d.pool.cfg.BatchKey.Of(members[0]), jobs.SealLone, now))
	f.alone = alone
	d.group = f
	return f, false
}
