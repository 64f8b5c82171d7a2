package ledger

import "rollcall/internal/jobs"

// Cache is a cache of pages for the tests.
type Cache struct{ c cache[pageKey, jobs.Page] }

func page(n uint64) pageKey { return pageKey{epoch: "e", number: n} }

// Put remembers that page n has sequence seq.
func (c *Cache) Put(n, seq uint64, p jobs.Page) { c.c.put(page(n), knownPage{seq: seq, value: p}) }

// Get returns the sequence remembered for page n.
func (c *Cache) Get(n uint64) (uint64, bool) {
	known, ok := c.c.get(page(n))
	return known.seq, ok
}

// Len is how many pages are remembered.
func (c *Cache) Len() int { return len(c.c.young) + len(c.c.old) }

// CacheBytes bounds a generation.
const CacheBytes = cacheBytes
