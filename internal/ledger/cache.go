package ledger

import "rollcall/internal/jobs"

// knownPage is a page as this replica last saw it. The zero value is a page that was never
// written.
type knownPage struct {
	seq  uint64
	page jobs.Page
}

const (
	// cacheBytes bounds what a generation weighs in memory: about 16,000 pages of final jobs, and
	// 200 whose jobs were all tried by sixteen services with long names. A page that is forgotten
	// costs a refused commit and a read, no more.
	cacheBytes = 3 << 20
	// cachedPage is what a page weighs in the cache without its records: its key, the header of
	// its epoch, and its part of the map.
	cachedPage = 128
)

// pageCache remembers the pages used last, in two generations: when the young one is full it
// becomes the old one, and what was not used since is gone.
type pageCache struct {
	young, old map[pageKey]knownPage
	// bytes of the young generation.
	bytes int
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
	size := cachedPage + known.page.Memory()
	if c.young == nil || c.bytes+size > cacheBytes {
		c.young, c.old, c.bytes = make(map[pageKey]knownPage), c.young, 0
	}
	if before, ok := c.young[key]; ok {
		c.bytes -= cachedPage + before.page.Memory()
	}
	c.young[key] = known
	c.bytes += size
}
