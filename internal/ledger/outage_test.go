package ledger_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
)

// fullStore is a store that has no room for a while, and holds nothing.
type fullStore struct{ until time.Time }

func (s fullStore) Apply(context.Context, []ledger.Write) (uint64, error) {
	if time.Now().Before(s.until) {
		return 0, fmt.Errorf("%w: insufficient resources (10023)", ledger.ErrBusy)
	}
	return 1, nil
}

func (s fullStore) Read(context.Context, []string) ([]ledger.Entry, error) {
	if time.Now().Before(s.until) {
		return nil, fmt.Errorf("no reply")
	}
	return nil, nil
}

// TestLongTroubleIsToldOnce: a store that refuses for a minute is named in the log, once, and
// so is its end; one that refuses for a moment is not.
func TestLongTroubleIsToldOnce(t *testing.T) {
	t.Parallel()
	for lasts, want := range map[time.Duration]int{time.Second: 0, time.Minute: 1} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			l := ledger.New(fullStore{until: time.Now().Add(lasts)}, ledgertest.Config(), zerolog.New(zerolog.SyncWriter(&log)))
			ctx, stop := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { _ = l.Run(ctx) }) // returns nil always
			if err := l.Commit(ctx, ledgertest.Settlement("b1", jobs.Succeeded, 1)); err != nil {
				t.Error(err)
			}
			stop()
			wg.Wait()
			for text, n := range map[string]int{"committing batches fails": want, "committing batches works again": want} {
				if got := strings.Count(log.String(), text); got != n {
					t.Errorf("after %v of refusals the log says %q %d times, want %d:\n%s", lasts, text, got, n, &log)
				}
			}
		})
	}
}

func TestLongTroubleWithReadingIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := ledger.New(fullStore{until: time.Now().Add(time.Minute)}, ledgertest.Config(), zerolog.New(&log))
		if _, err := l.Load(t.Context(), []jobs.Ref{{Epoch: ledgertest.Epoch, Seq: 1}}); err != nil {
			t.Error(err)
		}
		if strings.Count(log.String(), "reading the ledger fails") != 1 {
			t.Errorf("the log says %s", &log)
		}
	})
}
