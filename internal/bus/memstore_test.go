package bus_test

import (
	"context"
	"fmt"
	"sync"

	"rollcall/internal/bus"
)

// memStore is a PageStore in memory, for bubbles of testing/synctest. Its hooks run before
// and after each Apply, outside of its lock; an error of either is the answer.
type memStore struct {
	before func(writes []bus.Write) error
	after  func(writes []bus.Write) error

	mu      sync.Mutex
	seq     uint64
	entries map[string]bus.Entry
	applies int
	reads   int
}

func (s *memStore) Apply(_ context.Context, writes []bus.Write) (uint64, error) {
	if s.before != nil {
		if err := s.before(writes); err != nil {
			return 0, err
		}
	}
	first, err := s.apply(writes)
	if err == nil && s.after != nil {
		err = s.after(writes)
	}
	return first, err
}

func (s *memStore) apply(writes []bus.Write) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applies++
	if len(writes) > bus.MaxGroup {
		return 0, fmt.Errorf("%w: %d writes", bus.ErrRefused, len(writes))
	}
	seen := make(map[string]bool)
	for _, w := range writes {
		if seen[w.Subject] {
			return 0, fmt.Errorf("%w: %s twice", bus.ErrRefused, w.Subject)
		}
		seen[w.Subject] = true
		if s.entries[w.Subject].Seq != w.Expect {
			return 0, bus.ErrStale
		}
	}
	if s.entries == nil {
		s.entries = make(map[string]bus.Entry)
	}
	first := s.seq + 1
	for _, w := range writes {
		s.seq++
		s.entries[w.Subject] = bus.Entry{Subject: w.Subject, Seq: s.seq, Data: w.Data}
	}
	return first, nil
}

func (s *memStore) Read(_ context.Context, subjects []string) (entries []bus.Entry, err error) {
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

func (s *memStore) has(subject string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.entries[subject]
	return ok
}
