package ledger

import (
	"context"
	"errors"
	"fmt"
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

// Sets ends the sets of a pool. Whoever finds that as many members have ended as were declared
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

// Run ends sets until ctx is done, then returns nil. What fails is logged and made up for by the
// next sweep.
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
		for _, set := range due {
			if err := s.Look(ctx, set); err != nil && ctx.Err() == nil {
				s.log.Warn().Err(err).Str("set", set).Msg("the set could not be looked at; the next sweep does")
			}
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

// Look reads a set and ends it if it is complete or too old.
func (s *Sets) Look(ctx context.Context, set string) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	for again := (retry.Backoff{Lo: minCommitPause, Hi: maxCommitPause}); ; {
		state, err := ReadSet(ctx, s.store, s.cfg.Names, set)
		if err != nil {
			return err
		}
		outcome, ends := s.rule(&state)
		switch {
		case state.Ended:
			err = s.expire(ctx, &state)
		case !ends:
			return nil
		default:
			err = s.end(ctx, &state, outcome)
		}
		if err == nil || !errors.Is(err, ErrStale) && !errors.Is(err, ErrBusy) {
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

// end writes the end mark and the event of a set, and gives its tallies an end, or none of it.
func (s *Sets) end(ctx context.Context, state *SetState, outcome jobs.SetOutcome) error {
	event := jobs.NewSetEvent(s.cfg.Pool, state.Set, state.Tally, outcome, s.cfg.Now())
	data, err := event.Encode(s.cfg.MaxEvent())
	if err != nil {
		return err
	}
	writes, err := endTallies(state)
	if err != nil {
		return err
	}
	writes = append(writes,
		Write{Subject: s.cfg.set(state.Set, setEnd), TTL: s.cfg.EventTTL, Data: []byte(outcome)},
		Write{Subject: s.cfg.EventSubject(s.cfg.Pool, outcome, state.Set), TTL: s.cfg.EventTTL, ContentType: jobs.MediaEvent, Data: data})
	if _, err := s.store.Apply(ctx, writes); err != nil {
		return fmt.Errorf("end set %s: %w", state.Set, err)
	}
	s.log.Debug().Str("set", state.Set).Str("outcome", string(outcome)).Int("members", state.Tally.Counts.Total).Msg("set ended")
	if s.cfg.OnEnd != nil {
		s.cfg.OnEnd(state.Set, outcome, state.Tally.Counts.Total)
	}
	return nil
}

// expire gives an end to what was counted of a set after it ended.
func (s *Sets) expire(ctx context.Context, state *SetState) error {
	writes, err := endTallies(state)
	if err != nil || len(writes) == 0 {
		return err
	}
	if _, err := s.store.Apply(ctx, writes); err != nil {
		return fmt.Errorf("remove what was counted after set %s ended: %w", state.Set, err)
	}
	return nil
}

// endTallies writes the tallies of a set anew, as ended, to be removed soon. Each expects to be the
// one that was read. Those that say so already are left alone: they are on their way out.
func endTallies(state *SetState) ([]Write, error) {
	writes := make([]Write, 0, len(state.lanes)+2)
	for i := range state.lanes[:min(len(state.lanes), maxFenced)] {
		l := &state.lanes[i]
		if l.tally.Ended {
			continue
		}
		ended := l.tally
		ended.Ended = true
		data, err := ended.Encode()
		if err != nil {
			return nil, err
		}
		writes = append(writes, Write{Subject: l.subject, Expect: l.seq, TTL: endedTTL, Data: data})
	}
	return writes, nil
}
