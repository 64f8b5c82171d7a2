// Package ledgertest helps to test what stands on package ledger: a store in memory and batches
// to commit.
package ledgertest

import (
	"context"
	"fmt"
	"sync"

	"rollcall/internal/ledger"
)

// Store is a [ledger.Store] in memory. Its hooks run before and after each Apply, outside of its
// lock; an error of either is the answer. The zero Store is empty.
type Store struct {
	Before, After func(writes []ledger.Write) error

	mu      sync.Mutex
	seq     uint64
	entries map[string]ledger.Entry
	applies int
	reads   int
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
		s.entries = make(map[string]ledger.Entry)
	}
	first := s.seq + 1
	for _, w := range writes {
		s.seq++
		s.entries[w.Subject] = ledger.Entry{Subject: w.Subject, Seq: s.seq, Data: w.Data}
	}
	return first, nil
}

// Read implements [ledger.Store].
func (s *Store) Read(_ context.Context, subjects []string) (entries []ledger.Entry, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	for _, subject := range subjects {
		if entry, ok := s.entries[subject]; ok {
			entries = append(entries, entry)
		}
	}
	return entries, nil
}

// Has reports whether a message is stored on subject.
func (s *Store) Has(subject string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.entries[subject]
	return ok
}

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
