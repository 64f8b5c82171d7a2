package bus_test

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

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// fullStore is a store that has no room for a while, and holds nothing.
type fullStore struct{ until time.Time }

func (s fullStore) Apply(context.Context, []bus.Write) (uint64, error) {
	if time.Now().Before(s.until) {
		return 0, fmt.Errorf("%w: insufficient resources (10023)", bus.ErrBusy)
	}
	return 1, nil
}

func (s fullStore) Read(context.Context, []string) ([]bus.Entry, error) {
	if time.Now().Before(s.until) {
		return nil, fmt.Errorf("no answer")
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
			ledger := bus.NewLedger(fullStore{until: time.Now().Add(lasts)}, pool, time.Hour, zerolog.New(zerolog.SyncWriter(&log)))
			ctx, stop := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { _ = ledger.Run(ctx) }) // returns nil always
			if err := ledger.Commit(ctx, settlement("b1", jobs.Succeeded, 1)); err != nil {
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
		ledger := bus.NewLedger(fullStore{until: time.Now().Add(time.Minute)}, pool, time.Hour, zerolog.New(&log))
		if _, err := ledger.Load(t.Context(), []jobs.Ref{{Epoch: epoch, Seq: 1}}); err != nil {
			t.Error(err)
		}
		if strings.Count(log.String(), "reading the ledger fails") != 1 {
			t.Errorf("the log says %s", &log)
		}
	})
}
