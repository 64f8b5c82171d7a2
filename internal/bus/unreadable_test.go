package bus_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
)

// TestAnUnreadablePageStopsOnlyItsOwnJobs: a page that cannot be decoded, because somebody
// else wrote to done.> or a newer version did, is neither overwritten nor waited for.
func TestAnUnreadablePageStopsOnlyItsOwnJobs(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	page := ledgertest.Names().Page(jobs.Ref{Epoch: ledgertest.Epoch})
	if _, err := conn.NATS().Request(page, []byte(`{"stream":"JOBS","seq":1}`), patience); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	l := ledger.New(bus.NewDoneStore(conn), ledgerConfig(), zerolog.New(zerolog.SyncWriter(&log)))
	ctx, stop := context.WithCancel(t.Context())
	var runs, commits sync.WaitGroup
	runs.Go(func() { _ = l.Run(ctx) }) // returns nil always
	for i, seq := range []uint64{1, 100, 2, 200} {
		commits.Go(func() {
			err := l.Commit(patient(t), ledgertest.Settlement("b"+string(rune('0'+i)), jobs.Succeeded, seq))
			if bad := seq < jobs.PageSize; bad != errors.Is(err, ledger.ErrRefused) || !bad && err != nil {
				t.Errorf("job %d: Commit() = %v", seq, err)
			}
		})
	}
	commits.Wait()
	found, err := l.Load(patient(t), []jobs.Ref{{Epoch: ledgertest.Epoch, Seq: 1}, {Epoch: ledgertest.Epoch, Seq: 100}})
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
