package ledger

import (
	"context"
	"fmt"
	"slices"
	"time"

	"rollcall/internal/jobs"
)

// commit is one batch that waits to be stored, or marks (then it has no event).
type commit struct {
	// gone is closed when nobody waits for the commit any more.
	gone <-chan struct{}
	// received is when the first of the jobs was.
	received time.Time
	// pages the jobs are recorded on, each once; jobs says where on them.
	pages []pageKey
	jobs  []position
	// change returns what becomes of the record of the i-th job.
	change func(i int, r jobs.Record) jobs.Record
	// members are the jobs that become final and belong to sets; sets names each of those once.
	members []member
	sets    []string
	event   Write
	// done takes the result, once.
	done chan error
}

// position of a job: an index into the pages of its commit, and the offset there.
type position struct{ page, offset int }

// member is a job that becomes final and belongs to a set: an index into the sets of its commit.
type member struct {
	set    int
	job    *jobs.Job
	ruling *jobs.Ruling
}

func newCommit(ctx context.Context, n int, change func(int, jobs.Record) jobs.Record) *commit {
	return &commit{gone: ctx.Done(), done: make(chan error, 1), jobs: make([]position, 0, n), change: change}
}

// add adds a job. Jobs mostly come in the order of their stream, so the last page is looked at
// first.
func (c *commit) add(ref jobs.Ref) {
	key, offset := keyOf(ref)
	i := len(c.pages) - 1
	if i < 0 || c.pages[i] != key {
		if i = slices.Index(c.pages, key); i < 0 {
			i = len(c.pages)
			c.pages = append(c.pages, key)
		}
	}
	c.jobs = append(c.jobs, position{i, offset})
}

// count adds a job to its set, if it has one and became final. A replay is not counted: the job that
// it was made of has been.
func (c *commit) count(j *jobs.Job, ruling *jobs.Ruling) {
	if j.Set == "" || j.ReplayOf != "" || !ruling.Outcome.Final() {
		return
	}
	i := slices.Index(c.sets, j.Set)
	if i < 0 {
		i = len(c.sets)
		c.sets = append(c.sets, j.Set)
	}
	c.members = append(c.members, member{i, j, ruling})
}

// messages is how many the commit needs at most.
func (c *commit) messages() int { return len(c.pages) + len(c.sets) + 1 }

func (c *commit) abandoned() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

// fate reports what became of a commit that was refused, as far as that can be read: it was
// stored (nil), can never be, or is in conflict.
func (c *commit) fate(found *reading, p *pages) (ended bool, err error) {
	if found.events[c.event.Subject] {
		return true, nil
	}
	if len(found.unreadable) > 0 {
		for _, key := range c.pages {
			if err := found.unreadable[p.names.page(key)]; err != nil {
				return true, err
			}
		}
		for _, set := range c.sets {
			if err := found.unreadable[p.names.set(set, p.lane)]; err != nil {
				return true, err
			}
		}
	}
	if conflict := c.conflict(found.pages); conflict != nil {
		return true, conflict
	}
	return false, nil
}

// conflict returns an error if some jobs are final in pages, else nil.
func (c *commit) conflict(pages map[pageKey]knownPage) *jobs.ConflictError {
	var conflict *jobs.ConflictError
	for i, at := range c.jobs {
		if !pages[c.pages[at.page]].value.Record(at.offset).Final {
			continue
		}
		if conflict == nil {
			conflict = &jobs.ConflictError{Final: make([]bool, len(c.jobs))}
		}
		conflict.Final[i] = true
	}
	return conflict
}

// draft is a group merged into the pages and tallies as they are known.
type draft struct {
	// generation of the pages that it is merged into.
	generation uint64
	pages      changes[pageKey, jobs.Page]
	tallies    changes[string, jobs.SetTally]
	// members are the commits in the draft; later are those that a member contradicts, and
	// that have to be looked at once it is stored, and those that would make it too large.
	members []*commit
	later   []*commit
	// events is how many members have one: the others are marks. bytes is at least what the
	// pages, tallies and events weigh.
	events, bytes int
	// contradicted means that a job of the group is final in what this replica knows.
	contradicted bool
}

// changes are the records that a draft touches, each once.
type changes[K comparable, V weighable] struct {
	list  []change[K, V]
	index map[K]int
}

// change is a record as it was last seen and as the draft makes it.
type change[K comparable, V weighable] struct {
	key   K
	base  known[V]
	next  V
	dirty bool
}

// at returns the place of a record, which is looked up where it is new.
func (c *changes[K, V]) at(key K, lookUp func(K) known[V]) int {
	n, ok := c.index[key]
	if !ok {
		if c.index == nil {
			c.index = make(map[K]int)
		}
		n = len(c.list)
		base := lookUp(key)
		c.index[key], c.list = n, append(c.list, change[K, V]{key: key, base: base, next: base.value})
	}
	return n
}

// draft merges a group into the records that latest holds, and into what is remembered of others.
func (p *pages) draft(group []*commit, latest *reading) *draft {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := &draft{generation: p.generation}
	base := p.base(latest)
	for _, c := range group {
		at, sets := make([]int, len(c.pages)), make([]int, len(c.sets))
		for i, key := range c.pages {
			at[i] = d.pages.at(key, func(k pageKey) knownPage { return lookUp(&p.cache, base.pages, k) })
		}
		for i, set := range c.sets {
			sets[i] = d.tallies.at(set, func(k string) knownTally { return lookUp(&p.tallies, base.tallies, k) })
		}
		d.add(c, at, sets)
	}
	return d
}

// add merges a commit whose pages and sets are those at the given places of the draft.
func (d *draft) add(c *commit, at, sets []int) {
	for _, job := range c.jobs {
		page := &d.pages.list[at[job.page]]
		if page.base.value.Record(job.offset).Final {
			d.contradicted = true
			return
		}
		if page.next.Record(job.offset).Final {
			d.later = append(d.later, c)
			return
		}
	}
	bytes := len(c.event.Data)
	for _, i := range at {
		bytes += d.pages.list[i].next.Memory()
	}
	for _, i := range sets {
		bytes += d.tallies.list[i].next.Memory()
	}
	if len(d.members) > 0 && d.bytes+bytes > maxGroupBytes {
		d.later = append(d.later, c)
		return
	}
	for i, job := range c.jobs {
		page := &d.pages.list[at[job.page]]
		page.next = page.next.With(job.offset, c.change(i, page.next.Record(job.offset)))
		page.dirty = true
	}
	for _, m := range c.members {
		tally := &d.tallies.list[sets[m.set]]
		tally.next = tally.next.Add(m.job, m.ruling)
		tally.dirty = true
	}
	d.members = append(d.members, c)
	d.bytes += bytes
	if c.event.Subject != "" {
		d.events++
	}
}

// counted returns the sets that the draft counts members of.
func (d *draft) counted() (sets []string) {
	for i := range d.tallies.list {
		if t := &d.tallies.list[i]; t.dirty {
			sets = append(sets, t.key)
		}
	}
	return sets
}

// writes returns the messages of the group: the pages, the tallies, then the events. A page that
// holds an open record is kept until it is written again, however long its jobs wait; one of final
// jobs only is kept for ttl.
func (d *draft) writes(p *pages, ttl, tallyTTL time.Duration) ([]Write, error) {
	writes := make([]Write, 0, len(d.pages.list)+len(d.tallies.list)+d.events)
	for i := range d.pages.list {
		page := &d.pages.list[i]
		if !page.dirty {
			continue
		}
		w := Write{Subject: p.names.page(page.key), Expect: page.base.seq, Data: page.next.Append(nil)}
		if !page.next.Open() {
			w.TTL = ttl
		}
		writes = append(writes, w)
	}
	for i := range d.tallies.list {
		tally := &d.tallies.list[i]
		if !tally.dirty {
			continue
		}
		data, err := tally.next.Encode()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRefused, err)
		}
		writes = append(writes, Write{Subject: p.names.set(tally.key, p.lane), Expect: tally.base.seq, TTL: tallyTTL, Data: data})
	}
	for _, c := range d.members {
		if c.event.Subject != "" {
			writes = append(writes, c.event)
		}
	}
	return writes, nil
}
