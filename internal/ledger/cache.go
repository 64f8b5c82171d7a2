package ledger

import "rollcall/internal/jobs"

// weighable is a value that knows what it takes in memory, in bytes, its headers included.
type weighable interface{ Memory() int }

// known is a page or a tally as this replica last saw it. The zero value is one that was never
// written.
type known[V weighable] struct {
	seq   uint64
	value V
}

type (
	knownPage  = known[jobs.Page]
	knownTally = known[jobs.SetTally]
)

const (
	// cacheBytes bounds what a generation weighs in memory: about 16,000 pages of final jobs, and
	// 200 whose jobs were all tried by sixteen services with long names. A page that is forgotten
	// costs a refused commit and a read, no more.
	cacheBytes = 3 << 20
	// cachedEntry is what an entry weighs in the cache besides its value: its key, the text of its
	// key, and its part of the map.
	cachedEntry = 128
)

// cache remembers the values used last, in two generations: when the young one is full it becomes
// the old one, and what was not used since is gone.
type cache[K comparable, V weighable] struct {
	young, old map[K]known[V]
	// bytes of the young generation.
	bytes int
}

func (c *cache[K, V]) get(key K) (known[V], bool) {
	if k, ok := c.young[key]; ok {
		return k, true
	}
	k, ok := c.old[key]
	if ok {
		c.put(key, k)
	}
	return k, ok
}

func (c *cache[K, V]) put(key K, k known[V]) {
	size := cachedEntry + k.value.Memory()
	if c.young == nil || c.bytes+size > cacheBytes {
		c.young, c.old, c.bytes = make(map[K]known[V]), c.young, 0
	}
	if before, ok := c.young[key]; ok {
		c.bytes -= cachedEntry + before.value.Memory()
	}
	c.young[key] = k
	c.bytes += size
}
