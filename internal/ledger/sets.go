package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/retry"
)

const (
	// minLook is the shortest time between two looks at one set.
	minLook = 100 * time.Millisecond
	// maxTouched bounds the sets that wait to be looked at; the sweep finds the others.
	maxTouched = 1 << 16
	// setSweep is how often all open sets are gone through.
	setSweep = 5 * time.Second
	// endedTTL is how long the tallies of a set stay once it has ended.
	endedTTL = time.Minute
	// maxFenced bounds the lanes that are fenced when a set ends.
	maxFenced = MaxGroup - 2
	// endedTogether sets are read before any of them ends: as many as fit into one write if each
	// has one lane, so that it adds its end mark, its event and one tally.
	endedTogether = MaxGroup / 3
	// lookTimeout bounds one look.
	lookTimeout = 10 * time.Second
)

// SetsConfig of [Sets].
type SetsConfig struct {
	Names
	// MaxAge after which a set ends as abandoned.
	MaxAge time.Duration
	// EventTTL is how long the event of a set and its end mark are kept.
	EventTTL time.Duration
	// EventSubject is where the event of a set is stored.
	EventSubject func(pool string, outcome jobs.SetOutcome, set string) string
	// MaxEvent returns the longest event that the broker takes, in bytes.
	MaxEvent func() int
	// Now is the broker's clock.
	Now func() time.Time
	// OnEnd is called for each set that this replica ended; nil = nobody listens.
	OnEnd func(set string, outcome jobs.SetOutcome, members int)
}

// Sets ends the sets of a pool. A replica that finds that as many members have ended as were declared
// writes the end mark, which expects to be the first, the set's event, and every tally once more,
// which expects to be as it was read: all or nothing. So of several replicas that find a set
// complete one ends it, with the counts that stood in the ledger at that moment.
//
//	commit ─▶ Touched ─▶ look, at most every 100 ms a set ─┬─ complete ─▶ end mark + event + tallies
//	                     sweep, every 5 s ─────────────────┴─ too old ──▶ the same, as abandoned
//
// Tallies stay for a minute after the end, so that replicas which count late members find them.
type Sets struct {
	store Upkeep
	cfg   SetsConfig
	log   zerolog.Logger
	open  openSets

	// restarted means that the next sweep begins at the first message.
	restarted atomic.Bool

	wake chan struct{}
	mu   sync.Mutex
	// touched are the sets to look at, each with the earliest time to do so.
	touched map[string]time.Time
	// looked is when a set was looked at last.
	looked map[string]time.Time
}

// NewSets returns the sets of a pool. [Sets.Run] ends them.
func NewSets(store Upkeep, cfg SetsConfig, log zerolog.Logger) *Sets {
	return &Sets{
		store: store, cfg: cfg, log: log, open: newOpenSets(),
		wake: make(chan struct{}, 1), touched: map[string]time.Time{}, looked: map[string]time.Time{},
	}
}

// Touched says that members of these sets have ended. It does not block.
func (s *Sets) Touched(sets []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, set := range sets {
		if _, waits := s.touched[set]; !waits && len(s.touched) < maxTouched {
			s.touched[set] = s.looked[set].Add(minLook)
		}
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Restart begins anew after the broker's data was set back: sequences that were read may be given
// again.
func (s *Sets) Restart() { s.restarted.Store(true) }

// Run ends sets until ctx is done, then returns nil. A failure is logged; the next sweep tries again.
func (s *Sets) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() {
		for retry.Wait(ctx, retry.Jitter(setSweep)) == nil {
			if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn().Err(err).Msg("the sets could not be swept")
			}
		}
	})
	for {
		due, next := s.due(time.Now())
		if err := s.lookAt(ctx, due); err != nil && ctx.Err() == nil {
			s.log.Warn().Err(err).Int("sets", len(due)).Msg("sets could not be looked at; the next sweep does")
		}
		timer := time.NewTimer(next)
		select {
		case <-s.wake:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// due takes out the sets whose time has come and returns how long the next one has to wait.
func (s *Sets) due(now time.Time) (due []string, next time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next = setSweep
	for set, at := range s.touched {
		if wait := at.Sub(now); wait > 0 {
			next = min(next, wait)
			continue
		}
		due = append(due, set)
		delete(s.touched, set)
		s.looked[set] = now
	}
	for set, at := range s.looked {
		if now.Sub(at) > minLook {
			delete(s.looked, set)
		}
	}
	return due, next
}

// lookAt reads sets, many at once, and ends those that are complete or too old, as many in one
// write as fit: an atomic write costs the broker about the same whatever it holds.
func (s *Sets) lookAt(ctx context.Context, sets []string) error {
	var faults []error
	for some := range slices.Chunk(sets, endedTogether) {
		faults = append(faults, s.endComplete(ctx, some))
	}
	return errors.Join(faults...)
}

// endComplete reads sets and ends those that are complete or too old.
func (s *Sets) endComplete(ctx context.Context, sets []string) error {
	reading, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	read, err := readTogether(reading, s.store, s.cfg.Names, sets)
	if err != nil {
		return fmt.Errorf("read set %s and %d more: %w", sets[0], len(sets)-1, err)
	}
	var faults []error
	var group []ending
	writes, bytes := 0, 0
	flush := func() {
		if len(group) > 0 {
			faults = append(faults, s.endTogether(ctx, group))
		}
		group, writes, bytes = nil, 0, 0
	}
	for i := range read {
		e, err := s.ending(&read[i].state)
		if err = errors.Join(read[i].err, err); err != nil || e.writes == nil {
			faults = append(faults, err)
			continue
		}
		if writes+len(e.writes) > MaxGroup || bytes+e.bytes() > maxGroupBytes {
			flush()
		}
		group, writes, bytes = append(group, e), writes+len(e.writes), bytes+e.bytes()
	}
	flush()
	return errors.Join(faults...)
}

// endTogether ends several sets in one write. Where that is refused each is looked at again: of
// one of them somebody counted another member, or it has ended.
func (s *Sets) endTogether(ctx context.Context, group []ending) error {
	err := s.end(ctx, group)
	if !errors.Is(err, ErrStale) && !errors.Is(err, ErrBusy) && !errors.Is(err, ErrRefused) {
		return err
	}
	var faults []error
	for i := range group {
		faults = append(faults, s.Look(ctx, group[i].set))
	}
	return errors.Join(faults...)
}

// Look reads a set and ends it if it is complete or too old.
func (s *Sets) Look(ctx context.Context, set string) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	for again := (retry.Backoff{Lo: minCommitWait, Hi: maxCommitWait}); ; {
		state, err := ReadSet(ctx, s.store, s.cfg.Names, set)
		if err != nil {
			return err
		}
		e, err := s.ending(&state)
		if err != nil || e.writes == nil {
			return err
		}
		if err = s.end(ctx, []ending{e}); err == nil || !errors.Is(err, ErrStale) && !errors.Is(err, ErrBusy) {
			return err
		}
		// Somebody counted another member meanwhile, or ended the set.
		if retry.Wait(ctx, again.Next()) != nil {
			return fmt.Errorf("end set %s: %w", set, err)
		}
	}
}

// rule returns the outcome of a set and whether it ends now.
func (s *Sets) rule(state *SetState) (outcome jobs.SetOutcome, ends bool) {
	switch {
	case state.Tally.Complete():
		return state.Tally.Outcome(), true
	case len(state.lanes) > 0 && !s.cfg.Now().Before(state.begun().Add(s.cfg.MaxAge)):
		return jobs.SetAbandoned, true
	default:
		return "", false
	}
}
