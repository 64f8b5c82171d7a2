package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// add takes in one message of the set, the newer one where it has two of the same lane. The error
// wraps [jobs.ErrTally].
func (s *SetState) add(last string, e *Entry) error {
	if last == setEnd {
		s.Ended = true
		return nil
	}
	tally, err := jobs.DecodeSetTally(e.Data)
	if err != nil {
		return fmt.Errorf("read %s: %w", e.Subject, err)
	}
	read := lane{subject: e.Subject, seq: e.Seq, tally: tally, stored: e.Stored}
	if i := slices.IndexFunc(s.lanes, func(l lane) bool { return l.subject == e.Subject }); i >= 0 {
		s.lanes[i] = read
		s.Tally = jobs.SetTally{}
		for i := range s.lanes {
			s.Tally = s.Tally.Merge(s.lanes[i].tally)
		}
		return nil
	}
	s.Tally = s.Tally.Merge(tally)
	s.lanes = append(s.lanes, read)
	return nil
}

// ReadSet adds the lanes of a set up. A set that nobody has counted yet has a zero tally.
func ReadSet(ctx context.Context, store Upkeep, names Names, set string) (SetState, error) {
	found, err := readTogether(ctx, store, names, []string{set})
	if err != nil {
		return SetState{}, fmt.Errorf("read set %s: %w", set, err)
	}
	return found[0].state, found[0].err
}

// setRead is what was read of a set; err is of a tally that cannot be read.
type setRead struct {
	state SetState
	err   error
}

// readTogether adds up the lanes of sets, in their order, by as few reads as it takes.
func readTogether(ctx context.Context, store Upkeep, names Names, sets []string) ([]setRead, error) {
	filters := make([]string, len(sets))
	found := make([]setRead, len(sets))
	index := make(map[string]*setRead, len(sets))
	for i, set := range sets {
		filters[i] = names.Sets(set)
		found[i].state.Set = set
		index[set] = &found[i]
	}
	add := func(e Entry) error {
		if set, last, ok := parseSet(e.Subject); ok && index[set] != nil {
			index[set].err = errors.Join(index[set].err, index[set].state.add(last, &e))
		}
		return nil
	}
	entries, err := store.Read(ctx, filters)
	if errors.Is(err, ErrTooMany) && len(sets) > 1 {
		half := len(sets) / 2
		first, err1 := readTogether(ctx, store, names, sets[:half])
		second, err2 := readTogether(ctx, store, names, sets[half:])
		return append(first, second...), errors.Join(err1, err2)
	}
	if errors.Is(err, ErrTooMany) {
		return found, scan(ctx, store, filters[0], 1, add)
	}
	for i := range entries {
		_ = add(entries[i]) // noted with its set
	}
	return found, err
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
		return sets[i].add(last, &e)
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

// writeTries is how often what a person asked for is written that others keep refusing.
const writeTries = 10

// CloseSet declares how many members a set has, and returns the size that counts: of different ones the
// largest that was declared so far. Some replica of the pool ends the set once so many have ended. The
// error wraps [ErrSetEnded] where the set has.
func CloseSet(ctx context.Context, store Upkeep, names Names, set string, size int, ttl time.Duration) (counts int, err error) {
	for range writeTries {
		var state SetState
		if state, err = ReadSet(ctx, store, names, set); err != nil {
			return 0, err
		}
		if state.Ended {
			return 0, ErrSetEnded
		}
		w := Write{Subject: names.set(set, closing), TTL: ttl}
		tally := jobs.SetTally{Size: size}
		for i := range state.lanes {
			if state.lanes[i].subject == w.Subject {
				w.Expect, tally = state.lanes[i].seq, tally.Merge(state.lanes[i].tally)
			}
		}
		if w.Data, err = tally.Encode(); err != nil {
			return 0, err
		}
		if _, err = store.Apply(ctx, []Write{w}); err == nil {
			return max(size, state.Tally.Size), nil
		}
		if !errors.Is(err, ErrStale) && !errors.Is(err, ErrBusy) {
			return 0, err
		}
	}
	return 0, err
}
