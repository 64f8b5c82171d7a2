package bus_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
)

// TestSetsAgeByTheBrokersClock: of two replicas one machine is a minute ahead and the other a
// minute behind. Neither ends a set before its greatest age, and either ends it then.
func TestSetsAgeByTheBrokersClock(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for name, wrong := range map[string]time.Duration{"ahead": time.Minute, "behind": -time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, s)
			conn.Clock().Wrong(wrong)
			setup := ensure(t, conn, streams())
			done, err := conn.Stream(t.Context(), bus.StreamDone) // tells the broker's time
			if err != nil {
				t.Fatal(err)
			}
			const fresh, old = "fresh", "old"
			begun := map[string]time.Time{name + fresh: done.CachedInfo().TimeStamp, name + old: done.CachedInfo().TimeStamp.Add(-31 * time.Second)}
			config := ledgertest.Config()
			config.EventSubject, config.Lane, config.TallyTTL = bus.EventSubject, ledger.Lane(name), time.Hour
			l := ledgertest.Run(t, ledger.New(bus.NewDoneStore(conn), config, nopLog()))
			seq := uint64(1)
			if wrong < 0 {
				seq = 1000 // pages of its own
			}
			for set, at := range begun {
				batch := ledgertest.Settlement("b-"+set, jobs.Succeeded, seq)
				seq += 100
				j := batch.Batch.Jobs[0]
				j.Set, j.SetSize, j.Published = set, 2, at
				if _, err := ledgertest.CommitAll(t.Context(), l, batch); err != nil {
					t.Fatal(err)
				}
			}
			sets := ledger.NewSets(bus.NewUpkeep(conn, setup), ledger.SetsConfig{
				Names: ledgertest.Names(), MaxAge: 30 * time.Second, EventTTL: time.Hour, MaxEvent: func() int { return 1 << 20 },
				EventSubject: bus.SetEventSubject, Now: conn.Clock().Now,
			}, nopLog())
			if err := sets.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			for set, want := range map[string]bool{name + fresh: false, name + old: true} {
				_, err := done.GetLastMsgForSubject(t.Context(), bus.SetEventSubject(pool, jobs.SetAbandoned, set))
				if ended := err == nil; ended != want || err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
					t.Errorf("set %s has ended: %v, want %v: %v", set, ended, want, err)
				}
			}
		})
	}
}

// TestTalliesAreReadNoOlderThanWhatWasCommitted: followers answer too, and may lag.
func TestTalliesAreReadNoOlderThanWhatWasCommitted(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	store := bus.NewUpkeep(conn, setup)
	write := func(lane string) uint64 {
		t.Helper()
		seq, err := store.Apply(t.Context(), []ledger.Write{{Subject: "done.ledger.test.set.import." + lane}})
		if err != nil {
			t.Fatal(err)
		}
		return seq
	}
	setup.HighWater().Committed(write("a") + 1)
	asked, err := conn.NATS().SubscribeSync("$JS.API.DIRECT.GET.DONE")
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.NATS().FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	found := make(chan int, 1)
	go func() {
		entries, err := store.Read(t.Context(), []string{"done.ledger.test.set.import.*"})
		if err != nil {
			t.Error(err)
		}
		found <- len(entries)
	}()
	if _, err := asked.NextMsg(patience); err != nil {
		t.Fatal(err)
	}
	write("b")
	if n := <-found; n != 2 {
		t.Errorf("%d of 2 tallies were read", n)
	}
}
