package ledger

import (
	"context"
	"fmt"
	"sync"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
)

// pages reads pages and remembers them as this replica last saw them.
type pages struct {
	store Store
	names Names
	log   zerolog.Logger

	mu    sync.Mutex
	cache pageCache
	// generation counts invalidations: what was read or written in an earlier one is not
	// remembered in this one.
	generation uint64
	// reported are the unreadable pages that the log names already.
	reported map[pageKey]bool
}

// maxReported bounds the unreadable pages that are remembered as such.
const maxReported = 1 << 12

func newPages(store Store, names Names, log zerolog.Logger) *pages {
	return &pages{store: store, names: names, log: log, reported: map[pageKey]bool{}}
}

// invalidate forgets every page.
func (p *pages) invalidate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.generation++
	p.cache = pageCache{}
}

// reading is what a read found: the pages asked for, with a zero one for each that does not exist
// and none for each that cannot be decoded, and the subjects of the events that do.
type reading struct {
	generation uint64
	pages      map[pageKey]knownPage
	unreadable map[pageKey]error
	events     map[string]bool
}

// read reads pages and events at one moment.
func (p *pages) read(ctx context.Context, keys map[pageKey]struct{}, events []string) (reading, error) {
	found := reading{pages: make(map[pageKey]knownPage, len(keys)), events: make(map[string]bool, len(events)), unreadable: map[pageKey]error{}}
	p.mu.Lock()
	found.generation = p.generation
	p.mu.Unlock()
	bySubject := make(map[string]pageKey, len(keys))
	subjects := make([]string, 0, len(keys)+len(events))
	for key := range keys {
		subject := p.names.page(key)
		bySubject[subject] = key
		subjects = append(subjects, subject)
		found.pages[key] = knownPage{}
	}
	entries, err := p.store.Read(ctx, append(subjects, events...))
	if err != nil {
		return found, err
	}
	for _, entry := range entries {
		key, ok := bySubject[entry.Subject]
		if !ok {
			found.events[entry.Subject] = true
			continue
		}
		page, err := jobs.DecodePage(entry.Data)
		if err != nil {
			delete(found.pages, key)
			found.unreadable[key] = p.unreadable(key, entry.Subject, err)
			continue
		}
		found.pages[key] = knownPage{seq: entry.Seq, page: page}
	}
	return found, nil
}

// unreadable returns the error of a page that cannot be decoded, and logs it the first time. Such
// a page is not Rollcall's, or that of a newer version, which would lose it if it were
// overwritten. So its jobs cannot end, and must not hold up others.
func (p *pages) unreadable(key pageKey, subject string, cause error) error {
	p.mu.Lock()
	reported := p.reported[key]
	if !reported && len(p.reported) < maxReported {
		p.reported[key] = true
	}
	p.mu.Unlock()
	if !reported {
		p.log.Error().Err(cause).Str("subject", subject).
			Msg("a page of the ledger cannot be read, so its jobs cannot end; upgrade the worker, or purge the subject and have its jobs done again")
	}
	return fmt.Errorf("%w: the ledger page %s cannot be read: %w", ErrRefused, subject, cause)
}

// merge remembers what was read and returns it. A page that this replica itself wrote later than
// a lagging follower shows is returned as written.
func (p *pages) merge(found reading) map[pageKey]knownPage {
	p.mu.Lock()
	defer p.mu.Unlock()
	if found.generation != p.generation {
		return found.pages
	}
	for key, read := range found.pages {
		if cached, ok := p.cache.get(key); ok && cached.seq > read.seq {
			found.pages[key] = cached
			continue
		}
		p.cache.put(key, read)
	}
	return found.pages
}

// replace remembers what was read instead of what was known, and reports whether they differ.
// Whatever a lagging follower shows is taken over: if that is older than what was known, the next
// write is refused as well, and nothing worse.
func (p *pages) replace(found reading) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if found.generation != p.generation {
		return true
	}
	for key, read := range found.pages {
		if known, _ := p.cache.get(key); known.seq != read.seq {
			changed = true
		}
		p.cache.put(key, read)
	}
	return changed
}

// known returns a page, from latest if that is of this generation and has it, and the generation.
// The caller holds the lock.
func (p *pages) known(key pageKey, latest *reading) knownPage {
	if latest != nil && latest.generation == p.generation {
		if known, ok := latest.pages[key]; ok {
			return known
		}
	}
	known, _ := p.cache.get(key)
	return known
}

// keep remembers the pages of a group that was stored from sequence first on.
func (p *pages) keep(d *draft, first uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range d.pages {
		if page := &d.pages[i]; page.dirty {
			if d.generation == p.generation {
				p.cache.put(page.key, knownPage{seq: first, page: page.next})
			}
			first++
		}
	}
}
