package ledger

import (
	"context"
	"fmt"
	"sync"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
)

// pages reads pages, and the tallies of sets in this replica's lane, and remembers them as this
// replica last saw them.
type pages struct {
	store Store
	names Names
	lane  string
	log   zerolog.Logger

	mu      sync.Mutex
	cache   cache[pageKey, jobs.Page]
	tallies cache[string, jobs.SetTally]
	// generation counts invalidations: what was read or written in an earlier one is not
	// remembered in this one.
	generation uint64
	// reported are the subjects of unreadable pages and tallies that the log names already.
	reported map[string]bool
}

// maxReported bounds the unreadable subjects that are remembered as such.
const maxReported = 1 << 12

func newPages(store Store, names Names, lane string, log zerolog.Logger) *pages {
	return &pages{store: store, names: names, lane: lane, log: log, reported: map[string]bool{}}
}

// invalidate forgets every page.
func (p *pages) invalidate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.generation++
	p.cache = cache[pageKey, jobs.Page]{}
	p.tallies = cache[string, jobs.SetTally]{}
}

// reading is what a read found: the pages and tallies asked for, with a zero one for each that
// does not exist and none for each that cannot be decoded, and the subjects of the events that do.
type reading struct {
	generation uint64
	pages      map[pageKey]knownPage
	tallies    map[string]knownTally
	events     map[string]bool
	// unreadable says why, by subject.
	unreadable map[string]error
}

// wanted is what to read.
type wanted struct {
	pages  map[pageKey]struct{}
	sets   map[string]struct{}
	events []string
}

// read reads pages, tallies and events at one moment.
func (p *pages) read(ctx context.Context, want wanted) (reading, error) {
	found := reading{
		pages: make(map[pageKey]knownPage, len(want.pages)), tallies: make(map[string]knownTally, len(want.sets)),
		events: make(map[string]bool, len(want.events)), unreadable: map[string]error{},
	}
	p.mu.Lock()
	found.generation = p.generation
	p.mu.Unlock()
	pageBySubject, setBySubject := make(map[string]pageKey, len(want.pages)), make(map[string]string, len(want.sets))
	subjects := make([]string, 0, len(want.pages)+len(want.sets)+len(want.events))
	for key := range want.pages {
		subject := p.names.page(key)
		pageBySubject[subject] = key
		subjects = append(subjects, subject)
		found.pages[key] = knownPage{}
	}
	for set := range want.sets {
		subject := p.names.set(set, p.lane)
		setBySubject[subject] = set
		subjects = append(subjects, subject)
		found.tallies[set] = knownTally{}
	}
	entries, err := p.store.Read(ctx, append(subjects, want.events...))
	if err != nil {
		return found, err
	}
	for _, entry := range entries {
		var err error
		if key, ok := pageBySubject[entry.Subject]; ok {
			err = decode(found.pages, key, entry, jobs.DecodePage)
		} else if set, ok := setBySubject[entry.Subject]; ok {
			err = decode(found.tallies, set, entry, jobs.DecodeSetTally)
		} else {
			found.events[entry.Subject] = true
		}
		if err != nil {
			found.unreadable[entry.Subject] = p.unreadable(entry, err)
		}
	}
	return found, nil
}

// decode puts what an entry holds into a map, or takes its key out where it cannot be decoded.
func decode[K comparable, V weighable](into map[K]known[V], key K, entry Entry, decode func([]byte) (V, error)) error {
	value, err := decode(entry.Data)
	if err != nil {
		delete(into, key)
		return err
	}
	into[key] = known[V]{seq: entry.Seq, value: value}
	return nil
}

// unreadable returns the error of a page or tally that cannot be decoded, and logs it the first
// time. Such a record is not Rollcall's, or that of a newer version, which would lose it if it
// were overwritten, or another pool has taken it over. So its jobs cannot end, and must not hold
// up others.
func (p *pages) unreadable(entry Entry, cause error) error {
	message := "a record of the ledger cannot be read, so its jobs cannot end; upgrade the worker, or purge the subject and have its jobs done again"
	if pool, moved := movedTo(entry.Data); moved {
		message = "another pool has taken the ledger over, so jobs cannot end here; stop this worker"
		cause = fmt.Errorf("it is in pool %s: %w", pool, cause)
	}
	p.mu.Lock()
	reported := p.reported[entry.Subject]
	if !reported && len(p.reported) < maxReported {
		p.reported[entry.Subject] = true
	}
	p.mu.Unlock()
	if !reported {
		p.log.Error().Err(cause).Str("subject", entry.Subject).Msg(message)
	}
	return fmt.Errorf("%w: the record %s of the ledger cannot be read: %w", ErrRefused, entry.Subject, cause)
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
// Data of a lagging follower is taken as it is: if it is older than the known data, the next write is
// refused as well, and nothing worse.
func (p *pages) replace(found reading) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if found.generation != p.generation {
		return true
	}
	changed = replace(&p.cache, found.pages)
	return replace(&p.tallies, found.tallies) || changed
}

func replace[K comparable, V weighable](cached *cache[K, V], read map[K]known[V]) (changed bool) {
	for key, value := range read {
		if known, _ := cached.get(key); known.seq != value.seq {
			changed = true
		}
		cached.put(key, value)
	}
	return changed
}

// base returns what a draft builds on, from latest if that is of this generation. The caller holds
// the lock.
func (p *pages) base(latest *reading) *reading {
	if latest != nil && latest.generation == p.generation {
		return latest
	}
	return &reading{}
}

func lookUp[K comparable, V weighable](cached *cache[K, V], latest map[K]known[V], key K) known[V] {
	if value, ok := latest[key]; ok {
		return value
	}
	value, _ := cached.get(key)
	return value
}

// keep remembers the pages and tallies of a group that was stored from sequence first on.
func (p *pages) keep(d *draft, first uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d.generation != p.generation {
		return
	}
	first = keep(&p.cache, d.pages.list, first)
	keep(&p.tallies, d.tallies.list, first)
}

func keep[K comparable, V weighable](cached *cache[K, V], stored []change[K, V], first uint64) (next uint64) {
	for i := range stored {
		if c := &stored[i]; c.dirty {
			cached.put(c.key, known[V]{seq: first, value: c.next})
			first++
		}
	}
	return first
}
