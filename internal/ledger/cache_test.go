package ledger_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
)

// manyPages is more than a cache remembers.
const manyPages = 3 * ledger.CacheBytes / 128

func TestThePageCacheIsBoundedAndKeepsWhatIsUsed(t *testing.T) {
	t.Parallel()
	var c ledger.Cache
	c.Put(0, 7, jobs.Page{})
	for n := uint64(1); n < manyPages; n++ {
		c.Put(n, n, jobs.Page{})
		if seq, ok := c.Get(0); !ok || seq != 7 {
			t.Fatalf("page 0 in use is forgotten after %d others", n)
		}
	}
	if _, ok := c.Get(1); ok {
		t.Error("page 1, not used since, is still remembered")
	}
}

// TestThePageCacheIsBoundedByWhatItWeighs: pages whose jobs were all tried by many services with
// long names weigh hundreds of times what a page of final jobs does.
func TestThePageCacheIsBoundedByWhatItWeighs(t *testing.T) {
	heavy := func() (p jobs.Page) {
		for offset := range jobs.PageSize {
			r := jobs.Record{Attempts: 1}
			for s := range 16 {
				r.OK = append(r.OK, fmt.Sprintf("%02d%s", s, strings.Repeat("x", 60)))
			}
			p = p.With(offset, r)
		}
		return p
	}
	for name, build := range map[string]func() jobs.Page{
		"final": func() jobs.Page { return jobs.Page{}.With(0, jobs.Record{Final: true}) },
		"heavy": heavy,
	} {
		var c ledger.Cache
		before := heap()
		for n := range uint64(4 * ledger.CacheBytes / (128 + build().Memory())) {
			c.Put(n, n, build())
		}
		// Two generations, and maps that grow by doubling.
		if took := heap() - before; took > 3*ledger.CacheBytes {
			t.Errorf("%s pages: %d of them take %d bytes, want at most %d", name, c.Len(), took, 3*ledger.CacheBytes)
		}
		runtime.KeepAlive(&c)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
