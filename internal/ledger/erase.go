package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"rollcall/internal/jobs"
)

// EraseMembers takes the texts of the members that named chooses out of all tallies of the pool,
// which live for ttl more, and returns how many it has written anew. The counts stay. Replicas that
// count meanwhile are refused once and read the tally again.
func EraseMembers(ctx context.Context, store Upkeep, names Names, named func(*jobs.SetFailure) bool, ttl time.Duration) (n int, err error) {
	var stale error
	for range writeTries {
		stale = nil
		err := scan(ctx, store, names.Sets("*"), 1, func(e Entry) error {
			w, err := withoutMembers(e, named, ttl)
			if err != nil || w == nil {
				return err
			}
			_, err = store.Apply(ctx, []Write{*w})
			if errors.Is(err, ErrStale) || errors.Is(err, ErrBusy) {
				stale = err
				return nil
			}
			if err == nil {
				n++
			}
			return err
		})
		if err != nil || stale == nil {
			return n, err
		}
	}
	return n, fmt.Errorf("erase members of sets: %w", stale)
}

// withoutMembers returns the tally in e without the texts of some members; nil if it has none of
// them.
func withoutMembers(e Entry, named func(*jobs.SetFailure) bool, ttl time.Duration) (*Write, error) {
	if _, last, ok := parseSet(e.Subject); !ok || last == setEnd {
		return nil, nil
	}
	tally, err := jobs.DecodeSetTally(e.Data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", e.Subject, err)
	}
	if tally.Ended {
		ttl = endedTTL
	}
	found := false
	tally.Failed = slices.Clone(tally.Failed)
	for i := range tally.Failed {
		if f := &tally.Failed[i]; named(f) {
			*f, found, tally.Truncated = f.WithoutTexts(), true, true
		}
	}
	if !found {
		return nil, nil
	}
	data, err := tally.Encode()
	return &Write{Subject: e.Subject, Expect: e.Seq, TTL: ttl, Data: data}, err
}
