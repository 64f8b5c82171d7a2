package ledger_test

import (
	"testing"

	"rollcall/internal/ledger"
)

func TestThePageCacheIsBoundedAndKeepsWhatIsUsed(t *testing.T) {
	t.Parallel()
	var c ledger.Cache
	c.Put(0, 7)
	for n := uint64(1); n < 5*ledger.CachedPages; n++ {
		c.Put(n, n)
		if seq, ok := c.Get(0); !ok || seq != 7 {
			t.Fatalf("page 0 in use is forgotten after %d others", n)
		}
	}
	if _, ok := c.Get(1); ok {
		t.Error("page 1, not used since, is still remembered")
	}
}
