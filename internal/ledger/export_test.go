package ledger

// Cache is pageCache for the tests.
type Cache struct{ c pageCache }

func page(n uint64) pageKey { return pageKey{epoch: "e", number: n} }

// Put remembers that page n has sequence seq.
func (c *Cache) Put(n, seq uint64) { c.c.put(page(n), knownPage{seq: seq}) }

// Get returns the sequence remembered for page n.
func (c *Cache) Get(n uint64) (uint64, bool) {
	known, ok := c.c.get(page(n))
	return known.seq, ok
}

// CachedPages is the size of a generation.
const CachedPages = cachedPages
