package ledger

import "rollcall/internal/jobs"

// knownPage is a page as this replica last saw it. The zero value is a page that was never
// written.
type knownPage struct {
	seq  uint64
	page jobs.Page
}

// cachedPages bounds each of the two generations. A page weighs about 100 bytes, and one that
// is forgotten costs a refused commit and a read, no more.
const cachedPages = 1 << 13

// pageCache remembers the pages used last, in two generations: when the young one is full it
// becomes the old one, and what was not used since is gone.
type pageCache struct {
	young, old map[pageKey]knownPage
}

func (c *pageCache) get(key pageKey) (knownPage, bool) {
	if known, ok := c.young[key]; ok {
		return known, true
	}
	known, ok := c.old[key]
	if ok {
		c.put(key, known)
	}
	return known, ok
}

func (c *pageCache) put(key pageKey, known knownPage) {
	if c.young == nil || len(c.young) >= cachedPages {
		c.young, c.old = make(map[pageKey]knownPage), c.young
	}
	c.young[key] = known
}
