//go:build fault

package sizing_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/bus/bustest"
	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
)

var endedSets = flag.Int("sets", 2000, "how many sets TestEndedSetsLeaveTheLedger ends")

// perSet reads what docs/sets.md says of an ended set: bytes in the store, and subjects.
func perSet(t *testing.T) (storage float64, subjects int) {
	t.Helper()
	text, err := os.ReadFile("../../docs/sets.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`takes (\d+) bytes of the store\s+and (\d+) subjects`).FindStringSubmatch(string(text))
	if m == nil {
		t.Fatal("docs/sets.md does not say what an ended set takes")
	}
	if storage, err = strconv.ParseFloat(m[1], 64); err != nil {
		t.Fatal(err)
	}
	if subjects, err = strconv.Atoi(m[2]); err != nil {
		t.Fatal(err)
	}
	return storage, subjects
}

// TestEndedSetsLeaveTheLedger ends sets of one, looks what they take while their events are kept,
// and that nothing is left of them afterwards.
func TestEndedSetsLeaveTheLedger(t *testing.T) {
	t.Parallel()
	storage, each := perSet(t)
	conn := bustest.Connect(t, bustest.StartServer(t))
	setup := bustest.Ensure(t, conn, bustest.Streams())
	names := ledger.Names{Pool: bustest.Pool, Stream: "JOBS"}
	// Tallies stay for a minute; the events for longer, however many sets there are.
	kept := 150*time.Second + time.Duration(*endedSets)*time.Millisecond
	var ended atomic.Int64
	sets := ledger.NewSets(bus.NewUpkeep(conn, setup), ledger.SetsConfig{
		Names: names, MaxAge: time.Hour, EventTTL: kept, EventSubject: bus.SetEventSubject,
		MaxEvent: func() int { return 1 << 20 }, Now: conn.Clock().Now,
		OnEnd: func(string, jobs.SetOutcome, int) { ended.Add(1) },
	}, zerolog.Nop())
	defer bustest.RunSource(t, sets)()
	// Batches' events and pages are not what is looked at: they go at once.
	l := ledgertest.Run(t, ledger.New(bus.NewDoneStore(conn), ledger.Config{
		Names: names, TTL: func() time.Duration { return time.Second }, EventTTL: time.Second, EventSubject: bus.EventSubject,
		Lane: ledger.Lane("a"), TallyTTL: time.Hour, OnSets: sets.Touched,
	}, zerolog.Nop()))
	done, err := conn.JetStream().Stream(t.Context(), bus.StreamDone)
	if err != nil {
		t.Fatal(err)
	}
	subjects := func() int {
		info, err := done.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return int(info.State.NumSubjects)
	}
	const batch = 100
	for n := 0; n < *endedSets; n += batch {
		s := ledgertest.Settlement(fmt.Sprint("b", n), jobs.Succeeded, ledgertest.Span(uint64(n+1), uint64(n+1+batch))...)
		for i, j := range s.Batch.Jobs {
			j.Set, j.SetSize, j.Published = fmt.Sprint("import-", n+i), 1, conn.Clock().Now()
		}
		if err := l.Commit(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	faulttest.Until(t, 2*limit, "every set has ended", func() bool { return ended.Load() == int64(*endedSets) })
	t.Logf("the last of %d sets has ended %v after the last of its members", *endedSets, time.Since(began).Round(time.Millisecond))
	faulttest.Until(t, 2*limit, "tallies, pages and events of batches are gone", func() bool {
		return subjects() == each*(*endedSets)
	})
	info, err := done.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bytes := float64(info.State.Bytes) / float64(*endedSets)
	t.Logf("%d sets that have ended: %d subjects, %.0f bytes of the store each", *endedSets, info.State.NumSubjects, bytes)
	if !near(bytes, storage) {
		t.Errorf("an ended set takes %.0f bytes, and docs/sets.md says %.0f", bytes, storage)
	}
	faulttest.Until(t, kept+limit, "nothing is left of the sets", func() bool { return subjects() == 0 })
}
