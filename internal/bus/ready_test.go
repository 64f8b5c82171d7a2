package bus_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger/ledgertest"
)

// TestReadsWaitUntilTheStreamAnswers: right after a stream was made or its servers were started nobody
// answers for it, as here while it allows no direct gets. Whatever reads it waits for that.
func TestReadsWaitUntilTheStreamAnswers(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	l := runLedger(t, bus.NewDoneStore(conn))
	if err := l.Commit(patient(t), ledgertest.Settlement("b1", jobs.Succeeded, ledgertest.Span(1, 3)...)); err != nil {
		t.Fatal(err)
	}
	store, pages := bus.NewUpkeep(conn, setup), ledgertest.Names().Pages()
	done, err := conn.Stream(t.Context(), bus.StreamDone)
	if err != nil {
		t.Fatal(err)
	}
	js, config := jetStream(t, conn), done.CachedInfo().Config
	answers := func(yes bool) {
		config.AllowDirect = yes
		if _, err := js.UpdateStream(t.Context(), config); err != nil {
			t.Error(err)
		}
	}
	for name, read := range map[string]func(context.Context) (found bool, err error){
		"Newest": func(ctx context.Context) (bool, error) {
			entry, err := store.Newest(ctx, pages)
			return entry.Seq > 0, err
		},
		"Scan": func(ctx context.Context) (bool, error) {
			entries, err := store.Scan(ctx, pages, 1)
			return len(entries) == 1, err
		},
		"Read": func(ctx context.Context) (bool, error) {
			entries, err := store.Read(ctx, []string{pages})
			return len(entries) == 1, err
		},
		"LastMsg": func(ctx context.Context) (bool, error) {
			m, err := conn.LastMsg(ctx, done, pages)
			return m != nil, err
		},
		"Msg": func(ctx context.Context) (bool, error) {
			m, err := conn.Msg(ctx, done, 1)
			return m != nil, err
		},
	} {
		answers(false)
		soon, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if found, err := read(soon); found || err == nil {
			t.Errorf("%s found something, %v, although nobody answers", name, err)
		}
		stop()
		var later sync.WaitGroup
		later.Go(func() {
			time.Sleep(100 * time.Millisecond)
			answers(true)
		})
		if found, err := read(patient(t)); !found || err != nil {
			t.Errorf("%s found something: %v, %v; want it to wait until the stream answers", name, found, err)
		}
		later.Wait()
	}
}
