package ledger_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
)

// setReplica is the ledger of one replica with its sets, over a store that others share.
type setReplica struct {
	*ledger.Ledger
	sets *ledger.Sets
	stop func()
}

const setMaxAge = time.Hour

// startSets runs a replica until stop is called, at the end of the test at the latest.
func startSets(t *testing.T, store ledger.Upkeep, name string) *setReplica {
	t.Helper()
	return startSetsOf(t, store, name, 24*time.Hour)
}

// startSetsOf is startSets where events are kept for so long.
func startSetsOf(t *testing.T, store ledger.Upkeep, name string, eventTTL time.Duration) *setReplica {
	t.Helper()
	sets := ledger.NewSets(store, ledger.SetsConfig{
		Names: ledgertest.Names(), MaxAge: setMaxAge, EventTTL: eventTTL, MaxEvent: func() int { return 1 << 20 }, Now: time.Now,
		EventSubject: func(pool string, outcome jobs.SetOutcome, set string) string {
			return "done.sets." + pool + "." + string(outcome) + "." + set
		},
	}, zerolog.Nop())
	cfg := ledgertest.Config()
	cfg.Lane, cfg.TallyTTL, cfg.OnSets = ledger.Lane(name), 3*setMaxAge, sets.Touched
	l := ledger.New(store, cfg, zerolog.Nop())
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{l.Run, sets.Run} {
		running.Go(func() {
			if err := run(ctx); err != nil {
				t.Errorf("Run() = %v", err)
			}
		})
	}
	stop := sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	return &setReplica{Ledger: l, sets: sets, stop: stop}
}

// memberBatch is a batch of the jobs with sequences seqs, members of a set of this size.
func memberBatch(id, set string, size int, outcome jobs.Outcome, seqs ...uint64) *jobs.Settlement {
	s := ledgertest.Settlement(id, outcome, seqs...)
	for i, j := range s.Batch.Jobs {
		j.ID, j.Set, j.SetSize, j.Published = fmt.Sprintf("row-%d", seqs[i]), set, size, time.Now()
	}
	return s
}

func mustCommit(t *testing.T, l *setReplica, s *jobs.Settlement) {
	t.Helper()
	if err := l.Commit(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

// setEvents returns the events of sets in the store, by set.
func setEvents(t *testing.T, store *ledgertest.Store) map[string][]jobs.SetEvent {
	t.Helper()
	entries, err := store.Scan(t.Context(), "done.sets.>", 1)
	if err != nil {
		t.Fatal(err)
	}
	events := map[string][]jobs.SetEvent{}
	for _, e := range entries {
		event, err := jobs.DecodeSetEvent(e.Data)
		if err != nil {
			t.Fatal(err)
		}
		if want := "done.sets.test." + string(event.Subject) + "." + event.ID; e.Subject != want {
			t.Errorf("stored on %s, want %s", e.Subject, want)
		}
		events[event.ID] = append(events[event.ID], event)
	}
	return events
}

// TestSets_TheEndMarkOutlivesTheTallies, which would be those of an open set without it, however short events are kept.
func TestSets_TheEndMarkOutlivesTheTallies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &ledgertest.Store{}
		a := startSetsOf(t, store, "a", 10*time.Second)
		defer a.stop()
		mustCommit(t, a, memberBatch("b1", "import", 1, jobs.Succeeded, 1))
		for range 30 {
			time.Sleep(5 * time.Second)
			if mark, rest := store.Has("done.ledger.test.set.import.end"), store.Stored("done.ledger.test.set.import.>"); !mark && len(rest) > 0 {
				t.Fatalf("the mark is gone, and %v stands", rest)
			}
		}
		if rest := store.Stored("done.ledger.test.set.>"); len(rest) > 0 {
			t.Errorf("%v is left of the set", rest)
		}
	})
}

func TestSets_OneEndsWithinASecondOfItsLastMember(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &ledgertest.Store{}
		a, b := startSets(t, store, "a"), startSets(t, store, "b")
		defer a.stop()
		defer b.stop()
		mustCommit(t, a, memberBatch("b1", "import", 5, jobs.Succeeded, 1, 2))
		mustCommit(t, b, memberBatch("b2", "import", 0, jobs.Failed, 3, 4))
		time.Sleep(20 * time.Second)
		if got := setEvents(t, store); len(got) != 0 {
			t.Fatalf("ended before its last member: %v", got)
		}
		mustCommit(t, b, memberBatch("b3", "import", 0, jobs.Expired, 5))
		time.Sleep(time.Second)
		got := setEvents(t, store)["import"]
		if len(got) != 1 {
			t.Fatalf("%d events, want 1", len(got))
		}
		want := jobs.SetCounts{Total: 5, Succeeded: 2, Failed: 2, Expired: 1}
		if diff := cmp.Diff(want, got[0].Data.Counts); diff != "" || got[0].Subject != jobs.SetPartial || got[0].Data.Size != 5 {
			t.Errorf("%+v (-want +got):\n%s", got[0], diff)
		}
		if n := len(got[0].Data.Failed); n != 3 {
			t.Errorf("%d members are listed, want the 3 that did not succeed", n)
		}
	})
}

func TestSets_ARetriedMemberDoesNotCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &ledgertest.Store{}
		a := startSets(t, store, "a")
		defer a.stop()
		mustCommit(t, a, memberBatch("b1", "import", 2, jobs.Retrying, 1, 2))
		time.Sleep(20 * time.Second)
		if got := setEvents(t, store); len(got) != 0 {
			t.Errorf("members that are retried ended the set: %v", got)
		}
	})
}

// deafToSets is a store that does not answer who reads the tallies of sets.
type deafToSets struct{ *ledgertest.Store }

func (s deafToSets) Read(ctx context.Context, subjects []string) ([]ledger.Entry, error) {
	for _, subject := range subjects {
		if strings.HasPrefix(subject, "done.ledger.test.set.") && strings.HasSuffix(subject, ".*") {
			<-ctx.Done()
			return nil, ctx.Err()
		}
	}
	return s.Store.Read(ctx, subjects)
}

// TestSets_NoCommitWaitsForALookAtASet: the jobs of a commit are acked whatever their sets' end takes.
func TestSets_NoCommitWaitsForALookAtASet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := startSets(t, deafToSets{&ledgertest.Store{}}, "a")
		defer a.stop()
		begun := time.Now()
		for n := range uint64(20) {
			mustCommit(t, a, memberBatch(fmt.Sprint("b", n), fmt.Sprint("import-", n), 1, jobs.Succeeded, n+1))
		}
		if took := time.Since(begun); took > time.Second {
			t.Errorf("20 commits took %v beside looks that get no answer", took)
		}
	})
}

// TestSets_EachReplicaHasALaneOfItsOwn: one record of all would be a conflict at every commit.
func TestSets_EachReplicaHasALaneOfItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &ledgertest.Store{}
		for n, name := range []string{"a", "b", "c"} {
			replica := startSets(t, store, name)
			mustCommit(t, replica, memberBatch(name, "import", 9, jobs.Succeeded, uint64(100*n+1)))
			replica.stop()
		}
		if lanes := store.Stored("done.ledger.test.set.import.*"); len(lanes) != 3 {
			t.Errorf("%d lanes of three replicas: %v", len(lanes), lanes)
		}
	})
}

// TestSets_AReplayedMemberDoesNotCountAgain: the letter of a member is replayed while its set is open,
// and again when the set has ended and nothing is left of it.
func TestSets_AReplayedMemberDoesNotCountAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &ledgertest.Store{}
		a := startSets(t, store, "a")
		defer a.stop()
		replay := func(seq uint64) {
			s := memberBatch(fmt.Sprint("b", seq), "import", 3, jobs.Succeeded, seq)
			s.Batch.Jobs[0].ReplayOf = "abc.1"
			mustCommit(t, a, s)
		}
		mustCommit(t, a, memberBatch("b1", "import", 3, jobs.Failed, 1, 2))
		replay(3)
		time.Sleep(20 * time.Second)
		if got := setEvents(t, store); len(got) != 0 {
			t.Fatalf("a replay ended the set: %v", got)
		}
		mustCommit(t, a, memberBatch("b4", "import", 0, jobs.Succeeded, 4))
		time.Sleep(time.Second)
		want := jobs.SetCounts{Total: 3, Succeeded: 1, Failed: 2}
		if got := setEvents(t, store)["import"]; len(got) != 1 || got[0].Data.Counts != want {
			t.Errorf("%+v, want one event with %+v", got, want)
		}
		time.Sleep(25 * time.Hour)
		replay(5)
		time.Sleep(2 * setMaxAge)
		if left := store.Stored("done.ledger.test.set.>"); len(left) != 0 || len(setEvents(t, store)) != 0 {
			t.Errorf("a late replay began a new set: %v", left)
		}
	})
}

// TestSets_WhatACrashLeavesIsEnded: the replica that counted the last member is gone before it
// looked, and any other ends the set.
func TestSets_WhatACrashLeavesIsEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &ledgertest.Store{}
		cfg := ledgertest.Config()
		cfg.Lane = ledger.Lane("gone")
		gone := ledger.New(store, cfg, zerolog.Nop()) // nobody listens to OnSets
		ctx, kill := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = gone.Run(ctx) })
		if err := gone.Commit(ctx, memberBatch("b1", "import", 2, jobs.Succeeded, 1, 2)); err != nil {
			t.Fatal(err)
		}
		kill()
		running.Wait()
		a := startSets(t, store, "a")
		defer a.stop()
		time.Sleep(15 * time.Second)
		if got := setEvents(t, store)["import"]; len(got) != 1 || got[0].Subject != jobs.SetSucceeded {
			t.Errorf("15 s after the crash: %v, want one event", got)
		}
	})
}

func TestSets_OneThatIsTooOldIsAbandoned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &ledgertest.Store{}
		a := startSets(t, store, "a")
		defer a.stop()
		mustCommit(t, a, memberBatch("b1", "import", 3, jobs.Succeeded, 1, 2))
		mustCommit(t, a, memberBatch("b2", "endless", 0, jobs.Succeeded, 3))
		time.Sleep(setMaxAge - time.Minute)
		if got := setEvents(t, store); len(got) != 0 {
			t.Fatalf("ended early: %v", got)
		}
		time.Sleep(time.Minute + 10*time.Second)
		for set, total := range map[string]int{"import": 2, "endless": 1} {
			got := setEvents(t, store)[set]
			if len(got) != 1 || got[0].Subject != jobs.SetAbandoned || got[0].Data.Counts.Total != total {
				t.Errorf("%s: %+v, want one abandoned event of %d members", set, got, total)
			}
		}
	})
}

// TestSets_AMemberAfterTheEndStartsNothing: what is counted late goes by itself, and no second
// event follows.
func TestSets_AMemberAfterTheEndStartsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &ledgertest.Store{}
		a := startSets(t, store, "a")
		defer a.stop()
		mustCommit(t, a, memberBatch("b1", "import", 2, jobs.Succeeded, 1, 2))
		time.Sleep(10 * time.Second)
		for n := range 2 { // soon after the end, and when the tallies are gone
			mustCommit(t, a, memberBatch(fmt.Sprint("b", n+2), "import", 2, jobs.Failed, uint64(n+3)))
			time.Sleep(2 * time.Minute)
			for subject := range store.Stored("done.ledger.test.set.>") {
				if !strings.HasSuffix(subject, ".end") {
					t.Errorf("%s is left", subject)
				}
			}
		}
		time.Sleep(3 * setMaxAge)
		if got := setEvents(t, store)["import"]; len(got) != 1 || got[0].Data.Counts.Total != 2 {
			t.Errorf("%+v, want the event of the first two", got)
		}
	})
}

func TestSets_AnIDMayBeUsedAgainOnceItsEventIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &ledgertest.Store{}
		a := startSets(t, store, "a")
		defer a.stop()
		mustCommit(t, a, memberBatch("b1", "nightly", 1, jobs.Succeeded, 1))
		time.Sleep(25 * time.Hour)
		if got := store.Stored("done.ledger.test.set.>"); len(got) != 0 {
			t.Fatalf("left of the set: %v", got)
		}
		mustCommit(t, a, memberBatch("b2", "nightly", 1, jobs.Failed, 2))
		time.Sleep(time.Second)
		if got := setEvents(t, store)["nightly"]; len(got) != 1 || got[0].Subject != jobs.SetFailed {
			t.Errorf("%+v, want the event of the second night", got)
		}
	})
}

func TestSets_ASetIsClosedByItsSize(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &ledgertest.Store{}
		a := startSets(t, store, "a")
		defer a.stop()
		mustCommit(t, a, memberBatch("b1", "import", 0, jobs.Succeeded, 1, 2))
		if _, err := ledger.CloseSet(t.Context(), store, ledgertest.Names(), "import", 2, time.Hour); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Second)
		if got := setEvents(t, store)["import"]; len(got) != 1 || got[0].Data.Size != 2 {
			t.Errorf("%+v, want one event of size 2", got)
		}
		if _, err := ledger.CloseSet(t.Context(), store, ledgertest.Names(), "import", 3, time.Hour); err == nil {
			t.Error("a set that has ended can be closed")
		}
		state, err := ledger.ReadSet(t.Context(), store, ledgertest.Names(), "import")
		if err != nil || !state.Ended {
			t.Errorf("%+v, %v; want ended", state, err)
		}
	})
}

// busySet is a store of a set with more lanes than one read returns, one of which is written anew
// between two requests of each scan.
type busySet struct {
	*ledgertest.Store
	lane ledger.Write
}

func (s *busySet) Scan(ctx context.Context, filter string, from uint64) ([]ledger.Entry, error) {
	found, err := s.Store.Scan(ctx, filter, from)
	if from > 1 || err != nil {
		return found, err
	}
	last, err := s.Newest(ctx, s.lane.Subject)
	if err != nil {
		return nil, err
	}
	s.lane.Expect = last.Seq
	_, err = s.Apply(ctx, []ledger.Write{s.lane})
	return found, err
}

func TestSets_ALaneThatMovesWhileItsSetIsReadCountsOnce(t *testing.T) {
	t.Parallel()
	store := &busySet{Store: &ledgertest.Store{}}
	tally, err := jobs.SetTally{Size: 5000, Counts: jobs.SetCounts{Total: 1, Succeeded: 1}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	const lanes = ledger.MaxGroup + 100
	for n := range lanes {
		w := ledger.Write{Subject: fmt.Sprintf("done.ledger.%s.set.import.r%d", ledgertest.Pool, n), Data: tally}
		if store.lane.Subject == "" {
			store.lane = w
		}
		if _, err := store.Apply(t.Context(), []ledger.Write{w}); err != nil {
			t.Fatal(err)
		}
	}
	state, err := ledger.ReadSet(t.Context(), store, ledgertest.Names(), "import")
	if err != nil || state.Tally.Counts.Total != lanes {
		t.Errorf("%d members, %v; want %d", state.Tally.Counts.Total, err, lanes)
	}
	all, more, err := ledger.ReadSets(t.Context(), store, ledgertest.Names(), 10)
	if err != nil || more || len(all) != 1 || all[0].Tally.Counts.Total != lanes {
		t.Errorf("%+v, %v, %v; want one set of %d members", all, more, err, lanes)
	}
}

// TestSets_TwoReplicasInOneLane: they have the same name, and still nobody is counted twice or
// lost.
func TestSets_TwoReplicasInOneLane(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &ledgertest.Store{}
		const batches = 40
		var work sync.WaitGroup
		for r := range 2 {
			replica := startSets(t, store, "same")
			defer replica.stop()
			work.Go(func() {
				for n := range batches {
					seq := uint64(2*n + r + 1)
					if err := replica.Commit(t.Context(), memberBatch(fmt.Sprintf("b%d", seq), "import", 2*batches, jobs.Succeeded, seq)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		work.Wait()
		time.Sleep(15 * time.Second)
		if got := setEvents(t, store)["import"]; len(got) != 1 || got[0].Data.Counts.Total != 2*batches {
			t.Errorf("%+v, want one event of %d members", got, 2*batches)
		}
	})
}

// TestSets_ALostAnswerCountsOnce: the commit was stored and its reply lost, so it is found by its
// event and not counted again.
func TestSets_ALostAnswerCountsOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lost := false
		store := &ledgertest.Store{After: func(w []ledger.Write) error {
			if !lost && strings.Contains(w[len(w)-1].Subject, ".b1") {
				lost = true
				return context.DeadlineExceeded
			}
			return nil
		}}
		a := startSets(t, store, "a")
		defer a.stop()
		mustCommit(t, a, memberBatch("b1", "import", 3, jobs.Succeeded, 1, 2))
		time.Sleep(20 * time.Second)
		if got := setEvents(t, store); len(got) != 0 || !lost {
			t.Fatalf("two members of three ended the set: %v", got)
		}
		mustCommit(t, a, memberBatch("b2", "import", 3, jobs.Succeeded, 3))
		time.Sleep(time.Second)
		if got := setEvents(t, store)["import"]; len(got) != 1 || got[0].Data.Counts.Total != 3 {
			t.Errorf("%+v, want one event of 3", got)
		}
	})
}

func TestSets_EachEndsOnceHoweverManyLookAtIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &ledgertest.Store{}
		const sets = 200
		for r := range 4 {
			replica := startSets(t, store, fmt.Sprint("replica-", r))
			defer replica.stop()
			for n := range sets {
				seq := uint64(4*n + r + 1)
				mustCommit(t, replica, memberBatch(fmt.Sprintf("b%d", seq), fmt.Sprintf("set-%d", n), 4, jobs.Succeeded, seq))
			}
		}
		time.Sleep(15 * time.Second)
		if got := len(store.Stored("done.sets.test.succeeded.*")); got != sets {
			t.Errorf("%d events, want %d", got, sets)
		}
		time.Sleep(2 * time.Minute)
		if got := len(store.Stored("done.ledger.test.set.*.*")); got != sets {
			t.Errorf("%d records of sets are left, want the %d end marks", got, sets)
		}
	})
}

// TestSets_OneIsLookedAtTenTimesASecond: its commits may be many more.
func TestSets_OneIsLookedAtTenTimesASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &ledgertest.Store{}
		a := startSets(t, store, "a")
		defer a.stop()
		mustCommit(t, a, memberBatch("b0", "import", 1000, jobs.Succeeded, 1))
		time.Sleep(time.Second)
		before, begun := store.Reads(), time.Now()
		for n := range 100 {
			mustCommit(t, a, memberBatch(fmt.Sprint("b", n+1), "import", 0, jobs.Succeeded, uint64(n+2)))
			time.Sleep(10 * time.Millisecond)
		}
		took := time.Since(begun)
		if looks := store.Reads() - before; looks < 5 || looks > 2*int(took/(100*time.Millisecond)) {
			t.Errorf("%d reads while 100 commits touched a set in %v", looks, took)
		}
	})
}
