package bus_test

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

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

func TestWhatWaitsGoesIntoOnePublish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first := make(chan struct{})
		var once sync.Once
		store := &memStore{before: func([]bus.Write) error {
			once.Do(func() { <-first })
			return nil
		}}
		ledger := runLedger(t, store)
		var wg sync.WaitGroup
		commit := func(b int) {
			wg.Go(func() {
				if err := ledger.Commit(t.Context(), settlement(fmt.Sprintf("b%d", b), jobs.Succeeded, span(uint64(b*8), uint64(b*8+8))...)); err != nil {
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
		if store.applies != 2 || store.reads != 0 {
			t.Errorf("%d publishes and %d reads for one batch and 50 that waited, want 2 and none", store.applies, store.reads)
		}
		// 51 events, and pages 0 to 25, the two batches of a page merged into one message.
		if want := uint64(51 + 26 + 1); store.seq != want {
			t.Errorf("%d messages were stored, want %d: page 0 twice, every other once", store.seq, want)
		}
	})
}

func TestAGroupIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		largest := 0
		first := make(chan struct{})
		var once sync.Once
		store := &memStore{before: func(writes []bus.Write) error {
			once.Do(func() { <-first })
			largest = max(largest, len(writes))
			return nil
		}}
		ledger := runLedger(t, store)
		var wg sync.WaitGroup
		for b := range 40 {
			wg.Go(func() {
				// Each job on a page of its own: as scattered as retries can be.
				var seqs []uint64
				for i := range uint64(100) {
					seqs = append(seqs, uint64(b)*100*jobs.PageSize+i*jobs.PageSize)
				}
				if err := ledger.Commit(t.Context(), settlement(fmt.Sprintf("b%d", b), jobs.Succeeded, seqs...)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(first)
		wg.Wait()
		if largest > bus.MaxGroup || largest < bus.MaxGroup/2 {
			t.Errorf("the largest group had %d messages, want it near the limit of %d", largest, bus.MaxGroup)
		}
	})
}

func TestOneConflictDoesNotHoldUpItsGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &memStore{}
		if err := runLedger(t, store).Commit(t.Context(), settlement("other", jobs.Succeeded, 100)); err != nil {
			t.Fatal(err)
		}
		applied := store.applies
		ledger := bus.NewLedger(store, pool, time.Hour, nopLog())
		results := make([]error, 10)
		var wg sync.WaitGroup
		for b := range results {
			wg.Go(func() {
				results[b] = ledger.Commit(t.Context(), settlement(fmt.Sprintf("b%d", b), jobs.Succeeded, uint64(95+b)))
			})
		}
		synctest.Wait()
		ctx, stop := context.WithCancel(t.Context())
		wg.Go(func() { _ = ledger.Run(ctx) })
		synctest.Wait()
		stop()
		wg.Wait()
		for b, err := range results {
			if conflict := errors.As(err, new(*jobs.ConflictError)); conflict != (b == 5) || err != nil && !conflict {
				t.Errorf("batch %d ended with %v; only that of job 100 is in conflict", b, err)
			}
		}
		if n := store.applies - applied; n != 2 || store.reads != 1 {
			t.Errorf("%d publishes and %d reads, want the refused one, a read, and the rest together", n, store.reads)
		}
	})
}

// TestABatchThatContradictsItsGroup: the same job in two batches of one group. One commits,
// the other is told.
func TestABatchThatContradictsItsGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ledger := bus.NewLedger(&memStore{}, pool, time.Hour, nopLog())
		results := make([]error, 3)
		var wg sync.WaitGroup
		for b := range results {
			wg.Go(func() {
				results[b] = ledger.Commit(t.Context(), settlement(fmt.Sprintf("b%d", b), jobs.Succeeded, 7, uint64(10+b)))
			})
		}
		synctest.Wait()
		ctx, stop := context.WithCancel(t.Context())
		wg.Go(func() { _ = ledger.Run(ctx) })
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
		store := &memStore{after: func([]bus.Write) error {
			if n++; n == 1 {
				return lost
			}
			return nil
		}}
		ledger := runLedger(t, store)
		if err := ledger.Commit(t.Context(), settlement("b1", jobs.Succeeded, 1, 2, 3)); err != nil {
			t.Errorf("Commit() = %v, want nil: it was stored, only its answer was lost", err)
		}
		if store.applies != 1 {
			t.Errorf("the batch was published %d times, want once", store.applies)
		}
		// The same, for jobs that are to be retried: the attempt must not count twice.
		n = 0
		if err := ledger.Commit(t.Context(), settlement("b2", jobs.Retrying, 4)); err != nil {
			t.Error(err)
		}
		if got := records(t, ledger, 4)[0]; got.Attempts != 1 {
			t.Errorf("the record tells of %d attempts, want 1", got.Attempts)
		}
	})
}

func TestABrokerThatIsAwayIsWaitedFor(t *testing.T) {
	t.Parallel()
	for name, failure := range map[string]error{"busy": bus.ErrBusy, "silent": errors.New("timeout")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				store := &memStore{}
				tries := 0
				store.before = func([]bus.Write) error {
					if tries++; time.Since(start) < time.Minute {
						return failure
					}
					return nil
				}
				if err := runLedger(t, store).Commit(t.Context(), settlement("b1", jobs.Succeeded, 1)); err != nil {
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
		store := &memStore{before: func([]bus.Write) error {
			if here.Load() {
				return nil
			}
			return bus.ErrBusy
		}}
		ledger := runLedger(t, store)
		cause := errors.New("lease lost")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, cause)
		defer cancel()
		if err := ledger.Commit(ctx, settlement("b1", jobs.Succeeded, 1)); !errors.Is(err, cause) {
			t.Errorf("Commit() = %v, want the cause of its context's end", err)
		}
		// Nobody waits for it any more: it must not be stored later.
		here.Store(true)
		if err := ledger.Commit(t.Context(), settlement("b2", jobs.Succeeded, 1)); err != nil {
			t.Errorf("the next commit ended with %v", err)
		}
		if store.has("done.batch.test.succeeded.b1") {
			t.Error("the abandoned batch was stored all the same")
		}
	})
}

func TestAnEventThatIsRefusedForGoodFailsAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &memStore{before: func(writes []bus.Write) error {
			for _, w := range writes {
				if len(w.Data) > 1000 {
					return fmt.Errorf("%w: too large", bus.ErrRefused)
				}
			}
			return nil
		}}
		ledger := bus.NewLedger(store, pool, time.Hour, nopLog())
		results := make([]error, 5)
		var wg sync.WaitGroup
		for b := range results {
			wg.Go(func() {
				s := settlement(fmt.Sprintf("b%d", b), jobs.Succeeded, uint64(b))
				if b == 2 {
					s.Event = make([]byte, 2000)
				}
				results[b] = ledger.Commit(t.Context(), s)
			})
		}
		synctest.Wait()
		ctx, stop := context.WithCancel(t.Context())
		wg.Go(func() { _ = ledger.Run(ctx) })
		synctest.Wait()
		stop()
		wg.Wait()
		for b, err := range results {
			if errors.Is(err, bus.ErrRefused) != (b == 2) || b != 2 && err != nil {
				t.Errorf("batch %d ended with %v; only the large one is refused", b, err)
			}
		}
	})
}

func TestCommitAfterTheEndOfRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ledger := bus.NewLedger(&memStore{}, pool, time.Hour, nopLog())
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if err := ledger.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if err := ledger.Commit(t.Context(), settlement("b1", jobs.Succeeded, 1)); !errors.Is(err, bus.ErrClosed) {
			t.Errorf("Commit() = %v, want ErrClosed", err)
		}
	})
}

func TestLoneRunsAreWrittenDownAndKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &memStore{}
		ledger, other := runLedger(t, store), runLedger(t, store)
		ref := jobs.Ref{Epoch: epoch, Seq: 33}
		for _, step := range []struct {
			ledger *bus.Ledger
			lone   int
			want   int
		}{{ledger, 1, 1}, {other, 3, 3}, {ledger, 2, 3}} {
			if err := step.ledger.BeginLone(t.Context(), ref, step.lone); err != nil {
				t.Fatal(err)
			}
			if got := records(t, ledger, 33)[0]; got.Lone != step.want {
				t.Errorf("lone runs %d, want %d: what is recorded never shrinks", got.Lone, step.want)
			}
		}
		if err := other.Commit(t.Context(), settlement("b1", jobs.Failed, 33)); err != nil {
			t.Fatal(err)
		}
		if err := ledger.BeginLone(t.Context(), ref, 4); !errors.As(err, new(*jobs.ConflictError)) {
			t.Errorf("BeginLone() = %v for a final job, want a conflict", err)
		}
	})
}

// TestManyReplicasUnderFaults drives several ledgers over one store that loses answers, is
// busy and goes away at random. However it goes, each job becomes final in exactly one stored
// event, and nobody who was told so is wrong.
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
	fault := func(errs ...error) func([]bus.Write) error {
		return func([]bus.Write) error {
			time.Sleep(time.Duration(draw(20)) * time.Millisecond)
			if n := draw(3 * len(errs)); n < len(errs) {
				return errs[n]
			}
			return nil
		}
	}
	store := &memStore{before: fault(bus.ErrBusy, bus.ErrStale, errors.New("lost on the way")), after: fault(errors.New("answer lost"))}
	finishedBy := make(map[uint64]string)
	var wg sync.WaitGroup
	for r := range replicas {
		ledger := runLedger(t, store)
		for b := range batches {
			wg.Go(func() {
				from := uint64(draw(all - 20))
				id := fmt.Sprintf("r%db%d", r, b)
				seqs, err := commitAll(t.Context(), ledger, settlement(id, jobs.Succeeded, span(from, from+1+uint64(draw(19)))...))
				if err != nil {
					t.Error(err)
				}
				if len(seqs) > 0 && !store.has("done.batch.test.succeeded."+id) {
					t.Errorf("batch %s was told that it is stored, but it is not", id)
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
	store.before, store.after = nil, nil
	for seq, r := range records(t, runLedger(t, store), span(0, all)...) {
		if _, finished := finishedBy[uint64(seq)]; r.Final != finished {
			t.Errorf("job %d: final in the ledger %v, finished by a batch %v", seq, r.Final, finished)
		}
	}
}
