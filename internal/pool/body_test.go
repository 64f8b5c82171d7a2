package pool_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

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
