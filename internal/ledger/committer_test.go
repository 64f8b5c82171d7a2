package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
)

func TestWhatWaitsGoesIntoOnePublish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first := make(chan struct{})
		var once sync.Once
		store := &ledgertest.Store{Before: func([]ledger.Write) error {
			once.Do(func() { <-first })
			return nil
		}}
		l := runLedger(t, store)
		var wg sync.WaitGroup
		commit := func(b int) {
			wg.Go(func() {
				if err := l.Commit(t.Context(), ledgertest.Settlement(fmt.Sprintf("b%d", b), jobs.Succeeded, ledgertest.Span(uint64(b*8), uint64(b*8+8))...)); err != nil {
					t.Error(err)
				}
			})
		}
		commit(0)
		synctest.Wait()
		for b := range 50 {
			commit(b + 1)
		}
		synctest.Wait()
		close(first)
		wg.Wait()
		if store.Applies() != 2 || store.Reads() != 0 {
			t.Errorf("%d publishes and %d reads for one batch and 50 that waited, want 2 and none", store.Applies(), store.Reads())
		}
		// 51 events, and pages 0 to 25, the two batches of a page merged into one message.
		if want := uint64(51 + 26 + 1); store.Seq() != want {
			t.Errorf("%d messages were stored, want %d: page 0 twice, every other once", store.Seq(), want)
		}
	})
}

func TestAGroupIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		largest := 0
		first := make(chan struct{})
		var once sync.Once
		store := &ledgertest.Store{Before: func(writes []ledger.Write) error {
			once.Do(func() { <-first })
			largest = max(largest, len(writes))
			return nil
		}}
		l := runLedger(t, store)
		var wg sync.WaitGroup
		for b := range 40 {
			wg.Go(func() {
				// Each job on a page of its own: as scattered as retries can be.
				var seqs []uint64
				for i := range uint64(100) {
					seqs = append(seqs, uint64(b)*100*jobs.PageSize+i*jobs.PageSize)
				}
				if err := l.Commit(t.Context(), ledgertest.Settlement(fmt.Sprintf("b%d", b), jobs.Succeeded, seqs...)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(first)
		wg.Wait()
		if largest > ledger.MaxGroup || largest < ledger.MaxGroup/2 {
			t.Errorf("the largest group had %d messages, want it near the limit of %d", largest, ledger.MaxGroup)
		}
	})
}

func TestOneConflictDoesNotHoldUpItsGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &ledgertest.Store{}
		if err := runLedger(t, store).Commit(t.Context(), ledgertest.Settlement("other", jobs.Succeeded, 100)); err != nil {
			t.Fatal(err)
		}
		applied := store.Applies()
		l := ledger.New(store, ledgertest.Config(), zerolog.Nop())
		results := make([]error, 10)
		var wg sync.WaitGroup
		for b := range results {
			wg.Go(func() {
				results[b] = l.Commit(t.Context(), ledgertest.Settlement(fmt.Sprintf("b%d", b), jobs.Succeeded, uint64(95+b)))
			})
		}
		synctest.Wait()
		ctx, stop := context.WithCancel(t.Context())
		wg.Go(func() { _ = l.Run(ctx) })
		synctest.Wait()
		stop()
		wg.Wait()
		for b, err := range results {
			if conflict := errors.As(err, new(*jobs.ConflictError)); conflict != (b == 5) || err != nil && !conflict {
				t.Errorf("batch %d ended with %v; only that of job 100 is in conflict", b, err)
			}
		}
		if n := store.Applies() - applied; n != 2 || store.Reads() != 1 {
			t.Errorf("%d publishes and %d reads, want the refused one, a read, and the rest together", n, store.Reads())
		}
	})
}

// TestABatchThatContradictsItsGroup: the same job in two batches of one group. One commits,
// the other gets the conflict.
func TestABatchThatContradictsItsGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := ledger.New(&ledgertest.Store{}, ledgertest.Config(), zerolog.Nop())
		results := make([]error, 3)
		var wg sync.WaitGroup
		for b := range results {
			wg.Go(func() {
				results[b] = l.Commit(t.Context(), ledgertest.Settlement(fmt.Sprintf("b%d", b), jobs.Succeeded, 7, uint64(10+b)))
			})
		}
		synctest.Wait()
		ctx, stop := context.WithCancel(t.Context())
		wg.Go(func() { _ = l.Run(ctx) })
		synctest.Wait()
		stop()
		wg.Wait()
		won := 0
		for b, err := range results {
			var conflict *jobs.ConflictError
			switch {
			case err == nil:
				won++
			case !errors.As(err, &conflict) || !conflict.Final[0] || conflict.Final[1]:
				t.Errorf("batch %d ended with %v, want a conflict over job 7 alone", b, err)
			}
		}
		if won != 1 {
			t.Errorf("%d batches made job 7 final, want one", won)
		}
	})
}

func TestALostAnswerIsFoundOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lost := errors.New("timeout")
		n := 0
		store := &ledgertest.Store{After: func([]ledger.Write) error {
			if n++; n == 1 {
				return lost
			}
			return nil
		}}
		l := runLedger(t, store)
		if err := l.Commit(t.Context(), ledgertest.Settlement("b1", jobs.Succeeded, 1, 2, 3)); err != nil {
			t.Errorf("Commit() = %v, want nil: it was stored, only its reply was lost", err)
		}
		if store.Applies() != 1 {
			t.Errorf("the batch was published %d times, want once", store.Applies())
		}
		// The same, for jobs that are to be retried: the attempt must not count twice.
		n = 0
		if err := l.Commit(t.Context(), ledgertest.Settlement("b2", jobs.Retrying, 4)); err != nil {
			t.Error(err)
		}
		if got := ledgertest.Records(t, l, 4)[0]; got.Attempts != 1 {
			t.Errorf("the record has %d attempts, want 1", got.Attempts)
		}
	})
}

func TestABrokerThatIsAwayIsWaitedFor(t *testing.T) {
	t.Parallel()
	for name, failure := range map[string]error{"busy": ledger.ErrBusy, "silent": errors.New("timeout")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				store := &ledgertest.Store{}
				tries := 0
				store.Before = func([]ledger.Write) error {
					if tries++; time.Since(start) < time.Minute {
						return failure
					}
					return nil
				}
				if err := runLedger(t, store).Commit(t.Context(), ledgertest.Settlement("b1", jobs.Succeeded, 1)); err != nil {
					t.Error(err)
				}
				if tries < 60 || tries > 200 {
					t.Errorf("%d tries in a minute, want about one a second", tries)
				}
			})
		})
	}
}

func TestCommitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var here atomic.Bool
		store := &ledgertest.Store{Before: func([]ledger.Write) error {
			if here.Load() {
				return nil
			}
			return ledger.ErrBusy
		}}
		l := runLedger(t, store)
		cause := errors.New("lease lost")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, cause)
		defer cancel()
		if err := l.Commit(ctx, ledgertest.Settlement("b1", jobs.Succeeded, 1)); !errors.Is(err, cause) {
			t.Errorf("Commit() = %v, want the cause of its context's end", err)
		}
		// Nobody waits for it any more: it must not be stored later.
		here.Store(true)
		if err := l.Commit(t.Context(), ledgertest.Settlement("b2", jobs.Succeeded, 1)); err != nil {
			t.Errorf("the next commit ended with %v", err)
		}
		if store.Has("done.batches.test.succeeded.b1") {
			t.Error("the abandoned batch was stored all the same")
		}
	})
}

func TestAnEventThatIsRefusedForGoodFailsAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &ledgertest.Store{Before: func(writes []ledger.Write) error {
			for _, w := range writes {
				if len(w.Data) > 1000 {
					return fmt.Errorf("%w: too large", ledger.ErrRefused)
				}
			}
			return nil
		}}
		l := ledger.New(store, ledgertest.Config(), zerolog.Nop())
		results := make([]error, 5)
		var wg sync.WaitGroup
		for b := range results {
			wg.Go(func() {
				s := ledgertest.Settlement(fmt.Sprintf("b%d", b), jobs.Succeeded, uint64(b))
				if b == 2 {
					s.Event = make([]byte, 2000)
				}
				results[b] = l.Commit(t.Context(), s)
			})
		}
		synctest.Wait()
		ctx, stop := context.WithCancel(t.Context())
		wg.Go(func() { _ = l.Run(ctx) })
		synctest.Wait()
		stop()
		wg.Wait()
		for b, err := range results {
			if errors.Is(err, ledger.ErrRefused) != (b == 2) || b != 2 && err != nil {
				t.Errorf("batch %d ended with %v; only the large one is refused", b, err)
			}
		}
	})
}

func TestCommitAfterTheEndOfRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := ledger.New(&ledgertest.Store{}, ledgertest.Config(), zerolog.Nop())
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if err := l.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if err := l.Commit(t.Context(), ledgertest.Settlement("b1", jobs.Succeeded, 1)); !errors.Is(err, ledger.ErrClosed) {
			t.Errorf("Commit() = %v, want ErrClosed", err)
		}
	})
}

func TestMarksAreWrittenWithoutAnEventAndKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &ledgertest.Store{}
		l, other := runLedger(t, store), runLedger(t, store)
		ref := jobs.Ref{Epoch: ledgertest.Epoch, Seq: 33}
		for _, step := range []struct {
			ledger *ledger.Ledger
			mark   jobs.Mark
			seen   int
		}{{l, jobs.Mark{Lone: 1, Group: 4}, 0}, {other, jobs.Mark{Seen: 5, Lone: 2, Group: 2}, 5}, {l, jobs.Mark{Seen: 3}, 5}} {
			step.mark.Ref = ref
			if err := step.ledger.Mark(t.Context(), []jobs.Mark{step.mark}); err != nil {
				t.Fatal(err)
			}
			got := ledgertest.Records(t, l, 33)[0]
			if got.Lone != step.mark.Lone || got.Group != step.mark.Group || got.Seen != step.seen {
				t.Errorf("record %+v after %+v, want deliveries seen up to %d", got, step.mark, step.seen)
			}
		}
		if err := other.Commit(t.Context(), ledgertest.Settlement("b1", jobs.Failed, 33)); err != nil {
			t.Fatal(err)
		}
		if err := l.Mark(t.Context(), []jobs.Mark{{Ref: ref}}); !errors.As(err, new(*jobs.ConflictError)) {
			t.Errorf("Mark() = %v for a final job, want a conflict", err)
		}
	})
}

// TestManyReplicasUnderFaults drives several ledgers over one store that loses answers, is
// busy and goes away at random. However it goes, each job becomes final in exactly one stored
// event, and no report that it is stored is wrong.
func TestManyReplicasUnderFaults(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { raceUnderFaults(t, seed) })
		})
	}
}

func raceUnderFaults(t *testing.T, seed uint64) {
	const replicas, batches, all = 3, 8, 60
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, 0))
	draw := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(n)
	}
	fault := func(errs ...error) func([]ledger.Write) error {
		return func([]ledger.Write) error {
			time.Sleep(time.Duration(draw(20)) * time.Millisecond)
			if n := draw(3 * len(errs)); n < len(errs) {
				return errs[n]
			}
			return nil
		}
	}
	store := &ledgertest.Store{Before: fault(ledger.ErrBusy, ledger.ErrStale, errors.New("lost on the way")), After: fault(errors.New("answer lost"))}
	finishedBy := make(map[uint64]string)
	var wg sync.WaitGroup
	for r := range replicas {
		l := runLedger(t, store)
		for b := range batches {
			wg.Go(func() {
				from := uint64(draw(all - 20))
				id := fmt.Sprintf("r%db%d", r, b)
				seqs, err := ledgertest.CommitAll(t.Context(), l, ledgertest.Settlement(id, jobs.Succeeded, ledgertest.Span(from, from+1+uint64(draw(19)))...))
				if err != nil {
					t.Error(err)
				}
				if len(seqs) > 0 && !store.Has("done.batches.test.succeeded."+id) {
					t.Errorf("batch %s was reported as stored, but it is not", id)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, seq := range seqs {
					if other, ok := finishedBy[seq]; ok {
						t.Errorf("job %d was finished by %s and by %s", seq, other, id)
					}
					finishedBy[seq] = id
				}
			})
		}
	}
	wg.Wait()
	store.Before, store.After = nil, nil
	for seq, r := range ledgertest.Records(t, runLedger(t, store), ledgertest.Span(0, all)...) {
		if _, finished := finishedBy[uint64(seq)]; r.Final != finished {
			t.Errorf("job %d: final in the ledger %v, finished by a batch %v", seq, r.Final, finished)
		}
	}
}

// A stream that is nearly full, or small, has no room for a large group: its batches go as far as
// there is room for them.
func TestAGroupThatFindsNoRoomIsHalved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &ledgertest.Store{Before: func(writes []ledger.Write) error {
			if len(writes) > 4 {
				return fmt.Errorf("%w: maximum bytes exceeded (10077)", ledger.ErrBusy)
			}
			return nil
		}}
		l := ledger.New(store, ledgertest.Config(), zerolog.Nop())
		var wg sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		results := make([]error, 40)
		for b := range results {
			wg.Go(func() {
				in, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				results[b] = l.Commit(in, ledgertest.Settlement(fmt.Sprintf("b%d", b), jobs.Succeeded, uint64(b)))
			})
		}
		synctest.Wait()
		go func() { _ = l.Run(ctx) }() // it returns nil
		wg.Wait()
		if err := errors.Join(results...); err != nil {
			t.Errorf("there was room for every batch alone: %v", err)
		}
	})
}
