package bus_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// TestAnUnreadablePageStopsOnlyItsOwnJobs: a page that cannot be decoded, because somebody
// else wrote to done.> or a newer version did, is neither overwritten nor waited for.
func TestAnUnreadablePageStopsOnlyItsOwnJobs(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	page := "done.page." + pool + "." + epoch + ".0.0"
	if _, err := conn.NATS().Request(page, []byte(`{"stream":"JOBS","seq":1}`), patience); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	ledger := bus.NewLedger(bus.NewPageStore(conn), pool, time.Hour, zerolog.New(zerolog.SyncWriter(&log)))
	ctx, stop := context.WithCancel(t.Context())
	var runs, commits sync.WaitGroup
	runs.Go(func() { _ = ledger.Run(ctx) }) // returns nil always
	for i, seq := range []uint64{1, 100, 2, 200} {
		commits.Go(func() {
			err := ledger.Commit(patient(t), settlement("b"+string(rune('0'+i)), jobs.Succeeded, seq))
			if bad := seq < jobs.PageSize; bad != errors.Is(err, bus.ErrRefused) || !bad && err != nil {
				t.Errorf("job %d: Commit() = %v", seq, err)
			}
		})
	}
	commits.Wait()
	found, err := ledger.Load(patient(t), []jobs.Ref{{Epoch: epoch, Seq: 1}, {Epoch: epoch, Seq: 100}})
	if err != nil || found[0].Final || !found[1].Final {
		t.Errorf("Load() = %+v, %v; want the job on the bad page unknown and the other final", found, err)
	}
	stop()
	runs.Wait()
	if n := strings.Count(log.String(), page); n != 1 {
		t.Errorf("the log names the page %d times, want once:\n%s", n, &log)
	}
	if held := stored(t, conn, page); len(held) != 1 {
		t.Errorf("the page was changed: %v", held)
	}
}
