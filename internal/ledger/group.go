package ledger

import (
	"context"
	"slices"

	"rollcall/internal/jobs"
)

// commit is one batch that waits for its commit, or marks (then it has no event).
type commit struct {
	// gone is closed when nobody waits for the commit any more.
	gone <-chan struct{}
	// pages the jobs are recorded on, each once; jobs tells where on them.
	pages []pageKey
	jobs  []placed
	// change returns what becomes of the record of the i-th job.
	change func(i int, r jobs.Record) jobs.Record
	event  Write
	// done takes the result, once.
	done chan error
}

// placed is the place of a job: an index into the pages of its commit, and the offset there.
type placed struct{ page, offset int }

func newCommit(ctx context.Context, n int, change func(int, jobs.Record) jobs.Record) *commit {
	return &commit{gone: ctx.Done(), done: make(chan error, 1), jobs: make([]placed, 0, n), change: change}
}

// place adds a job. Jobs mostly come in the order of their stream, so the last page is
// looked at first.
func (c *commit) place(ref jobs.Ref) {
	number, offset := ref.Page()
	key := pageKey{ref.Epoch, number}
	i := len(c.pages) - 1
	if i < 0 || c.pages[i] != key {
		if i = slices.Index(c.pages, key); i < 0 {
			i = len(c.pages)
			c.pages = append(c.pages, key)
		}
	}
	c.jobs = append(c.jobs, placed{i, offset})
}

func (c *commit) abandoned() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

// blocked returns why the commit can never be stored, if one of its pages is among those.
func (c *commit) blocked(unreadable map[pageKey]error) error {
	for _, key := range c.pages {
		if err := unreadable[key]; err != nil {
			return err
		}
	}
	return nil
}

// verdict returns a conflict if some jobs are final in pages, else nil.
func (c *commit) verdict(pages map[pageKey]knownPage) *jobs.ConflictError {
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
	pages []draftPage
	index map[pageKey]int
	// members are the commits in the draft; later are those that a member contradicts, and
	// that have to be looked at once it is stored.
	members []*commit
	later   []*commit
	// contradicted tells that a job of the group is final in what this replica knows.
	contradicted bool
}

type draftPage struct {
	key   pageKey
	base  knownPage
	next  jobs.Page
	dirty bool
}

func (l *Ledger) draft(group []*commit) *draft {
	d := &draft{index: make(map[pageKey]int)}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range group {
		at := make([]int, len(c.pages))
		for i, key := range c.pages {
			n, ok := d.index[key]
			if !ok {
				n = len(d.pages)
				known, _ := l.cache.get(key)
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
	for _, place := range c.jobs {
		page := &d.pages[at[place.page]]
		if page.base.page.Record(place.offset).Final {
			d.contradicted = true
			return
		}
		if page.next.Record(place.offset).Final {
			d.later = append(d.later, c)
			return
		}
	}
	for i, place := range c.jobs {
		page := &d.pages[at[place.page]]
		page.next = page.next.With(place.offset, c.change(i, page.next.Record(place.offset)))
		page.dirty = true
	}
	d.members = append(d.members, c)
}

// batches counts the members that have an event: the others are marks.
func (d *draft) batches() (n int) {
	for _, c := range d.members {
		if c.event.Subject != "" {
			n++
		}
	}
	return n
}

// writes returns the messages of the group: the pages, then the events.
func (l *Ledger) writes(d *draft) []Write {
	writes := make([]Write, 0, len(d.pages)+len(d.members))
	for i := range d.pages {
		if page := &d.pages[i]; page.dirty {
			writes = append(writes, Write{
				Subject: page.key.subject(l.cfg.Pool), Expect: page.base.seq, TTL: l.cfg.TTL, Data: page.next.Append(nil),
			})
		}
	}
	for _, c := range d.members {
		if c.event.Subject != "" {
			writes = append(writes, c.event)
		}
	}
	return writes
}

// keep remembers the pages of a group that was stored from sequence first on.
func (l *Ledger) keep(d *draft, first uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range d.pages {
		if page := &d.pages[i]; page.dirty {
			l.cache.put(page.key, knownPage{seq: first, page: page.next})
			first++
		}
	}
}
