package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rollcall/internal/jobs"
)

// closing is the lane of what a person declares of a set. No replica has it, see [Lane].
const closing = "close"

// lane is one tally of a set as it is stored.
type lane struct {
	subject string
	seq     uint64
	tally   jobs.SetTally
	// stored is when, by the broker's clock.
	stored time.Time
}

// SetState is what the ledger has counted of a set.
type SetState struct {
	Set string
	// Tally is the sum of all lanes.
	Tally jobs.SetTally
	// Ended means that the set has its end mark, and its event. The tally is gone soon after.
	Ended bool

	lanes []lane
}

// Known reports whether anything of the set has been counted or declared.
func (s *SetState) Known() bool { return s.Ended || len(s.lanes) > 0 }

// begun returns when the set began, as far as the ledger knows.
func (s *SetState) begun() time.Time {
	first := s.Tally.FirstAt
	for i := range s.lanes {
		if first.IsZero() || s.lanes[i].stored.Before(first) {
			first = s.lanes[i].stored
		}
	}
	return first
}

// add takes in one message of the set. The error wraps [jobs.ErrTally].
func (s *SetState) add(last string, e Entry) error {
	if last == setEnd {
		s.Ended = true
		return nil
	}
	tally, err := jobs.DecodeSetTally(e.Data)
	if err != nil {
		return fmt.Errorf("read %s: %w", e.Subject, err)
	}
	s.Tally = s.Tally.Merge(tally)
	s.lanes = append(s.lanes, lane{subject: e.Subject, seq: e.Seq, tally: tally, stored: e.Stored})
	return nil
}

// ReadSet adds the lanes of a set up. A set that nobody has counted yet has a zero tally.
func ReadSet(ctx context.Context, store Upkeep, names Names, set string) (SetState, error) {
	state := SetState{Set: set}
	err := scan(ctx, store, names.Sets(set), 1, func(e Entry) error {
		_, last, ok := parseSet(e.Subject)
		if !ok {
			return nil
		}
		return state.add(last, e)
	})
	if err != nil {
		return SetState{}, fmt.Errorf("read set %s: %w", set, err)
	}
	return state, nil
}

// ReadSets adds up the lanes of the pool's sets, at most limit of them, those whose oldest tally
// was written longest ago first. more reports that there are others.
func ReadSets(ctx context.Context, store Upkeep, names Names, limit int) (sets []SetState, more bool, err error) {
	index := map[string]int{}
	err = scan(ctx, store, names.Sets("*"), 1, func(e Entry) error {
		set, last, ok := parseSet(e.Subject)
		if !ok {
			return nil
		}
		i, known := index[set]
		if !known {
			if len(sets) == limit {
				more = true
				return nil
			}
			i = len(sets)
			index[set], sets = i, append(sets, SetState{Set: set})
		}
		return sets[i].add(last, e)
	})
	if err != nil {
		return nil, false, fmt.Errorf("read the sets of pool %s: %w", names.Pool, err)
	}
	return sets, more, nil
}

// scan calls each for the messages that match filter, from sequence from on.
func scan(ctx context.Context, store Upkeep, filter string, from uint64, each func(Entry) error) error {
	for {
		entries, err := store.Scan(ctx, filter, from)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return nil
		}
		for _, e := range entries {
			if err := each(e); err != nil {
				return err
			}
		}
		from = entries[len(entries)-1].Seq + 1
	}
}

// ErrSetEnded is returned for a set that has ended already.
var ErrSetEnded = errors.New("the set has ended")

// closeTries is how often a declaration is tried that others keep refusing.
const closeTries = 10

// CloseSet declares how many members a set has; of different sizes the largest counts. Some
// replica of the pool ends the set once so many have ended. The error wraps [ErrSetEnded] where
// the set has.
func CloseSet(ctx context.Context, store Upkeep, names Names, set string, size int, ttl time.Duration) error {
	var err error
	for range closeTries {
		var state SetState
		if state, err = ReadSet(ctx, store, names, set); err != nil {
			return err
		}
		if state.Ended {
			return ErrSetEnded
		}
		w := Write{Subject: names.set(set, closing), TTL: ttl}
		tally := jobs.SetTally{Size: size}
		for i := range state.lanes {
			if state.lanes[i].subject == w.Subject {
				w.Expect, tally = state.lanes[i].seq, tally.Merge(state.lanes[i].tally)
			}
		}
		if w.Data, err = tally.Encode(); err != nil {
			return err
		}
		if _, err = store.Apply(ctx, []Write{w}); err == nil {
			return nil
		}
		if !errors.Is(err, ErrStale) && !errors.Is(err, ErrBusy) {
			break
		}
	}
	return err
}
