package pool_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/internal/jobs"
)

// TestABodyThatMayStillBeReadIsNotUsedAgain has a service whose calls leave a reader behind, as
// net/http does with one that was answered early, and one that reads all of every body.
func TestABodyThatMayStillBeReadIsNotUsedAgain(t *testing.T) {
	t.Parallel()
	type seen struct{ body, copied []byte }
	var mu sync.Mutex
	var kept []seen
	slow := service{name: "slow", answer: func(ctx context.Context, c *jobs.Call) jobs.CallResult {
		mu.Lock()
		defer mu.Unlock()
		kept = append(kept, seen{c.Body, bytes.Clone(c.Body)})
		return allOK(ctx, c)
	}}
	quick := service{name: "quick", answer: func(ctx context.Context, c *jobs.Call) jobs.CallResult {
		r := allOK(ctx, c)
		r.BodyRead = true
		return r
	}}
	r := start(t, settings(), slow, quick)
	for seq := uint64(1); seq < 40; seq += 2 {
		r.push(deliveries(seq, seq+1)...)
		r.journal.wait(fmt.Sprint("ack ", seq+1))
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	for i, s := range kept {
		if !bytes.Equal(s.body, s.copied) {
			t.Fatalf("the body of call %d became another while it was read:\n%s\n%s", i, s.copied, s.body)
		}
	}
}

// TestBodiesAreLetGoBeforeTheCommit: many batches may wait for theirs.
func TestBodiesAreLetGoBeforeTheCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var called []*jobs.Job
		r := start(t, settings(), service{name: "s", answer: func(ctx context.Context, c *jobs.Call) jobs.CallResult {
			for _, j := range c.Jobs {
				if len(j.Body) == 0 {
					t.Error("a job was called for without its body")
				}
			}
			called = append(called, c.Jobs...)
			return allOK(ctx, c)
		}})
		r.ledger.hold = make(chan struct{})
		r.push(deliveries(1, 2)...)
		time.Sleep(time.Second)
		synctest.Wait() // the commit is held
		if len(called) != 2 {
			t.Errorf("%d jobs were called for, want 2", len(called))
		}
		for _, j := range called {
			if j.Data != nil || j.Body != nil {
				t.Errorf("job %d waits for its commit with its body", j.Ref.Seq)
			}
		}
		close(r.ledger.hold)
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}
