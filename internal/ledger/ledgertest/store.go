// Package ledgertest helps to test users of package ledger: a store in memory and batches
// to commit.
package ledgertest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"rollcall/internal/ledger"
)

// Store is a [ledger.Upkeep] in memory. Its hooks run before and after each Apply, outside of its
// lock; an error of either is the reply. The zero Store is empty.
type Store struct {
	Before, After func(writes []ledger.Write) error
	// Settled is what Floor returns, with the present time.
	Settled ledger.Floor

	mu      sync.Mutex
	seq     uint64
	entries map[string]message
	applies int
	reads   int
}

// message is an entry with its end; zero = it stays.
type message struct {
	ledger.Entry
	ttl  time.Duration
	ends time.Time
}

// Apply implements [ledger.Store].
func (s *Store) Apply(_ context.Context, writes []ledger.Write) (uint64, error) {
	if s.Before != nil {
		if err := s.Before(writes); err != nil {
			return 0, err
		}
	}
	first, err := s.apply(writes)
	if err == nil && s.After != nil {
		err = s.After(writes)
	}
	return first, err
}

func (s *Store) apply(writes []ledger.Write) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applies++
	s.expire()
	if len(writes) > ledger.MaxGroup {
		return 0, fmt.Errorf("%w: %d writes", ledger.ErrRefused, len(writes))
	}
	seen := make(map[string]bool)
	for _, w := range writes {
		if seen[w.Subject] {
			return 0, fmt.Errorf("%w: %s twice", ledger.ErrRefused, w.Subject)
		}
		seen[w.Subject] = true
		if s.entries[w.Subject].Seq != w.Expect {
			return 0, ledger.ErrStale
		}
	}
	if s.entries == nil {
		s.entries = make(map[string]message)
	}
	first, now := s.seq+1, time.Now()
	for _, w := range writes {
		s.seq++
		m := message{Entry: ledger.Entry{Subject: w.Subject, Seq: s.seq, Stored: now, Data: slices.Clone(w.Data)}, ttl: w.TTL}
		if w.TTL > 0 {
			m.ends = now.Add(w.TTL)
		}
		s.entries[w.Subject] = m
	}
	return first, nil
}

// expire removes messages past their TTL. The caller holds the lock.
func (s *Store) expire() {
	now := time.Now()
	maps.DeleteFunc(s.entries, func(_ string, m message) bool { return !m.ends.IsZero() && !now.Before(m.ends) })
}

// Read implements [ledger.Store].
func (s *Store) Read(_ context.Context, subjects []string) (entries []ledger.Entry, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	s.expire()
	for _, subject := range subjects {
		if strings.Contains(subject, "*") {
			entries = append(entries, s.match(subject)...)
		} else if m, ok := s.entries[subject]; ok {
			entries = append(entries, m.Entry)
		}
	}
	if len(entries) > ledger.MaxGroup {
		return nil, ledger.ErrTooMany
	}
	return entries, nil
}

// Floor implements [ledger.Upkeep].
func (s *Store) Floor(context.Context) (ledger.Floor, error) {
	floor := s.Settled
	floor.Now = time.Now()
	return floor, nil
}

// scanSize is how many entries a scan returns.
const scanSize = 64

// Scan implements [ledger.Upkeep].
func (s *Store) Scan(_ context.Context, filter string, from uint64) ([]ledger.Entry, error) {
	found := s.matching(filter)
	found = slices.DeleteFunc(found, func(e ledger.Entry) bool { return e.Seq < from })
	return found[:min(len(found), scanSize)], nil
}

// Newest implements [ledger.Upkeep].
func (s *Store) Newest(_ context.Context, filter string) (ledger.Entry, error) {
	found := s.matching(filter)
	if len(found) == 0 {
		return ledger.Entry{}, nil
	}
	return found[len(found)-1], nil
}

// Purge implements [ledger.Upkeep].
func (s *Store) Purge(_ context.Context, filter string) (uint64, error) {
	found := s.matching(filter)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range found {
		delete(s.entries, found[i].Subject)
	}
	return uint64(len(found)), nil
}

// matching returns what matches filter, the oldest first.
func (s *Store) matching(filter string) []ledger.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	return s.match(filter)
}

// match is matching for callers that hold the lock.
func (s *Store) match(filter string) (found []ledger.Entry) {
	for subject := range s.entries {
		if Matches(filter, subject) {
			found = append(found, s.entries[subject].Entry)
		}
	}
	slices.SortFunc(found, func(a, b ledger.Entry) int { return cmp.Compare(a.Seq, b.Seq) })
	return found
}

// Matches reports whether a subject matches a filter with NATS wildcards.
func Matches(filter, subject string) bool {
	have := strings.Split(subject, ".")
	for i, want := range strings.Split(filter, ".") {
		if want == ">" {
			return i < len(have)
		}
		if i >= len(have) || want != "*" && want != have[i] {
			return false
		}
	}
	return strings.Count(filter, ".") == len(have)-1
}

// Stored returns the subjects that match filter, each with the TTL that it was written with.
func (s *Store) Stored(filter string) map[string]time.Duration {
	found := make(map[string]time.Duration)
	for _, e := range s.matching(filter) {
		s.mu.Lock()
		found[e.Subject] = s.entries[e.Subject].ttl
		s.mu.Unlock()
	}
	return found
}

// Has reports whether a message is stored on subject.
func (s *Store) Has(subject string) bool { return len(s.matching(subject)) > 0 }

// Applies is how many groups have reached the store, taken or refused.
func (s *Store) Applies() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.applies
}

// Reads is how often the store was read.
func (s *Store) Reads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

// Seq is the sequence of the last message stored.
func (s *Store) Seq() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seq
}
