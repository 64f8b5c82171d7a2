package ledger

import (
	"context"
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
	event  Write
	// done takes the result, once.
	done chan error
}

// position of a job: an index into the pages of its commit, and the offset there.
type position struct{ page, offset int }

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
func (c *commit) fate(found *reading) (ended bool, err error) {
	if found.events[c.event.Subject] {
		return true, nil
	}
	for _, key := range c.pages {
		if err := found.unreadable[key]; err != nil {
			return true, err
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
		if !pages[c.pages[at.page]].page.Record(at.offset).Final {
			continue
		}
		if conflict == nil {
			conflict = &jobs.ConflictError{Final: make([]bool, len(c.jobs))}
		}
		conflict.Final[i] = true
	}
	return conflict
}

// draft is a group merged into the pages as they are known.
type draft struct {
	// generation of the pages that it is merged into.
	generation uint64
	pages      []draftPage
	index      map[pageKey]int
	// members are the commits in the draft; later are those that a member contradicts, and
	// that have to be looked at once it is stored, and those that would make it too large.
	members []*commit
	later   []*commit
	// events is how many members have one: the others are marks. bytes is at least what the
	// pages and events weigh.
	events, bytes int
	// contradicted means that a job of the group is final in what this replica knows.
	contradicted bool
}

type draftPage struct {
	key   pageKey
	base  knownPage
	next  jobs.Page
	dirty bool
}

// draft merges a group into the pages that latest holds, and into what is remembered of others.
func (p *pages) draft(group []*commit, latest *reading) *draft {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := &draft{index: make(map[pageKey]int), generation: p.generation}
	for _, c := range group {
		at := make([]int, len(c.pages))
		for i, key := range c.pages {
			n, ok := d.index[key]
			if !ok {
				n = len(d.pages)
				known := p.known(key, latest)
				d.index[key], d.pages = n, append(d.pages, draftPage{key: key, base: known, next: known.page})
			}
			at[i] = n
		}
		d.add(c, at)
	}
	return d
}

// add merges a commit whose pages are those at the given indexes of the draft.
func (d *draft) add(c *commit, at []int) {
	for _, job := range c.jobs {
		page := &d.pages[at[job.page]]
		if page.base.page.Record(job.offset).Final {
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
		bytes += d.pages[i].next.Memory()
	}
	if len(d.members) > 0 && d.bytes+bytes > maxGroupBytes {
		d.later = append(d.later, c)
		return
	}
	for i, job := range c.jobs {
		page := &d.pages[at[job.page]]
		page.next = page.next.With(job.offset, c.change(i, page.next.Record(job.offset)))
		page.dirty = true
	}
	d.members = append(d.members, c)
	d.bytes += bytes
	if c.event.Subject != "" {
		d.events++
	}
}

// writes returns the messages of the group: the pages, then the events. A page that holds an open
// record is kept until it is written again, however long its jobs wait; one of final jobs only is
// kept for ttl.
func (d *draft) writes(names Names, ttl time.Duration) []Write {
	writes := make([]Write, 0, len(d.pages)+d.events)
	for i := range d.pages {
		page := &d.pages[i]
		if !page.dirty {
			continue
		}
		w := Write{Subject: names.page(page.key), Expect: page.base.seq, Data: page.next.Append(nil)}
		if !page.next.Open() {
			w.TTL = ttl
		}
		writes = append(writes, w)
	}
	for _, c := range d.members {
		if c.event.Subject != "" {
			writes = append(writes, c.event)
		}
	}
	return writes
}
