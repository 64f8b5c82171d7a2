package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rollcall/internal/jobs"
)

const (
	// maxOpenSets bounds the sets that a sweep remembers; the others have to wait for these.
	maxOpenSets = 100_000
	// rescanEvery is how often a sweep begins at the first message again. Between, it reads what
	// was written since the last one only.
	rescanEvery = 5 * time.Minute
)

// openSets remembers the sets that have not ended, as the last sweep left them.
type openSets struct {
	sets map[string]*openSet
	// next is the first sequence that no sweep has read; scanned is when the first was begun at.
	next    uint64
	scanned time.Time
	// full means that there were more than maxOpenSets.
	full bool
}

// openSet is what a sweep remembers of a set.
type openSet struct{ lanes map[string]laneCount }

// laneCount is what one lane has counted.
type laneCount struct {
	size, total int
	begun       time.Time
}

func newOpenSets() openSets { return openSets{sets: map[string]*openSet{}, next: 1} }

// begin starts a sweep.
func (o *openSets) begin(now time.Time) {
	if now.Sub(o.scanned) >= rescanEvery || o.full && len(o.sets) < maxOpenSets/2 {
		*o = newOpenSets()
		o.scanned = now
	}
}

// see takes in one message of a set.
func (o *openSets) see(e Entry) error {
	o.next = e.Seq + 1
	set, last, ok := parseSet(e.Subject)
	if !ok {
		return nil
	}
	if last == setEnd {
		delete(o.sets, set)
		return nil
	}
	tally, err := jobs.DecodeSetTally(e.Data)
	if err != nil || tally.Ended {
		return err
	}
	open := o.sets[set]
	if open == nil {
		if len(o.sets) >= maxOpenSets {
			o.full = true
			return nil
		}
		open = &openSet{lanes: map[string]laneCount{}}
		o.sets[set] = open
	}
	count := laneCount{size: tally.Size, total: tally.Counts.Total, begun: tally.FirstAt}
	if count.begun.IsZero() {
		count.begun = e.Stored
	}
	open.lanes[last] = count
	return nil
}

// due returns the sets that are complete or too old, and forgets them: what is written of them
// later is seen again.
func (o *openSets) due(oldest time.Time) (due []string) {
	for set, open := range o.sets {
		size, total, old := 0, 0, false
		for _, lane := range open.lanes {
			size, total = max(size, lane.size), total+lane.total
			old = old || !lane.begun.After(oldest)
		}
		if old || size > 0 && total >= size {
			due = append(due, set)
			delete(o.sets, set)
		}
	}
	return due
}

// Sweep ends the sets that are complete or too old and that nobody has ended: their replica may
// have crashed. One goroutine may sweep at a time.
func (s *Sets) Sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	now := s.cfg.Now()
	if s.restarted.Swap(false) {
		s.open.scanned = time.Time{}
	}
	s.open.begin(now)
	var faults []error
	err := scan(ctx, s.store, s.cfg.Sets("*"), s.open.next, func(e Entry) error {
		if err := s.open.see(e); err != nil {
			faults = append(faults, fmt.Errorf("read %s: %w", e.Subject, err))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("sweep the sets: %w", err)
	}
	if err := s.lookAt(ctx, s.open.due(now.Add(-s.cfg.MaxAge))); err != nil {
		s.open.scanned = time.Time{} // the next sweep finds them again
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}
