package ledger_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
)

func TestALargeGroupMakesTheNextOneGather(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		batches    int
		jobs       int // in each
		takes      time.Duration
		next       time.Duration // when the next publish begins, after the last one's end
		groupsThen int
	}{
		{batches: 8, jobs: 63, takes: 10 * time.Millisecond, next: 0, groupsThen: 3},
		{batches: 8, jobs: 64, takes: 10 * time.Millisecond, next: 10 * time.Millisecond, groupsThen: 2},
		{batches: 8, jobs: 64, takes: time.Second, next: 20 * time.Millisecond, groupsThen: 2}, // a slow disk gathers enough by itself
		{batches: 15, jobs: 1, takes: 10 * time.Millisecond, next: 0, groupsThen: 3},
		{batches: 16, jobs: 1, takes: 10 * time.Millisecond, next: 10 * time.Millisecond, groupsThen: 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			var begun []time.Duration
			start := time.Now()
			store := &ledgertest.Store{Before: func([]ledger.Write) error {
				begun = append(begun, time.Since(start))
				time.Sleep(tc.takes)
				return nil
			}}
			l := ledger.New(store, ledgertest.Config(), zerolog.Nop())
			var wg sync.WaitGroup
			commit := func(b int) {
				wg.Go(func() {
					if err := l.Commit(t.Context(), ledgertest.Settlement(fmt.Sprintf("b%d", b), jobs.Succeeded, ledgertest.Span(uint64(b*64), uint64(b*64+tc.jobs))...)); err != nil {
						t.Error(err)
					}
				})
			}
			for b := range tc.batches {
				commit(b)
			}
			synctest.Wait()
			ctx, stop := context.WithCancel(t.Context())
			run := make(chan error, 1)
			go func() { run <- l.Run(ctx) }()
			time.Sleep(tc.takes + time.Millisecond)
			commit(100)
			time.Sleep(time.Millisecond)
			commit(101)
			wg.Wait()
			stop()
			if err := <-run; err != nil {
				t.Error(err)
			}
			if len(begun) != tc.groupsThen {
				t.Fatalf("%d batches of %d: publishes at %v, want %d", tc.batches, tc.jobs, begun, tc.groupsThen)
			}
			if waited := begun[1] - tc.takes; tc.next > 0 && waited != tc.next {
				t.Errorf("%d batches of %d in %v: the next publish began %v after the end, want %v", tc.batches, tc.jobs, tc.takes, waited, tc.next)
			}
		})
	}
}
