package pool_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/internal/jobs"
)

// asked writes down which jobs each call was for, and answers after a second.
type asked struct {
	mu    sync.Mutex
	calls [][]uint64
	at    []time.Time
}

func (a *asked) answer(ctx context.Context, c *jobs.Call) jobs.CallResult {
	a.mu.Lock()
	var seqs []uint64
	for _, j := range c.Jobs {
		seqs = append(seqs, j.Ref.Seq)
	}
	a.calls, a.at = append(a.calls, seqs), append(a.at, time.Now())
	a.mu.Unlock()
	return after(time.Second, allOK)(ctx, c)
}

// TestCancel_ACallUnderWayIsCut: the mates of the cancelled job are called for again at once, and
// end; nothing is said of the cancelled one.
func TestCancel_ACallUnderWayIsCut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls asked
		cfg := settings()
		cfg.BatchSize = 3
		r := start(t, cfg, service{name: "billing", answer: calls.answer})
		r.push(deliveries(1, 3)...)
		time.Sleep(500 * time.Millisecond)
		r.pool.Cancel([]jobs.Ref{ref(2)})
		time.Sleep(5 * time.Second)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		if len(calls.calls) != 2 || !slices.Equal(calls.calls[0], []uint64{1, 2, 3}) || !slices.Equal(calls.calls[1], []uint64{1, 3}) {
			t.Fatalf("calls for %v, want all three and then the two others", calls.calls)
		}
		if pause := calls.at[1].Sub(calls.at[0]); pause > time.Second {
			t.Errorf("the others were called for %v later, want at once", pause)
		}
		for _, s := range r.ledger.settlements() {
			for i, j := range s.Batch.Jobs {
				if j.Ref.Seq == 2 || s.Rulings[i].Outcome != jobs.Succeeded {
					t.Errorf("job %d is committed as %s", j.Ref.Seq, s.Rulings[i].Outcome)
				}
			}
		}
		if n := len(r.journal.with("ack")); n != 3 {
			t.Errorf("%d acks, want one for each job", n)
		}
	})
}

func TestCancel_AJobThatWaitsIsNotCalledFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls asked
		cfg := settings()
		cfg.BatchSize, cfg.BatchLinger = 10, 10*time.Second
		r := start(t, cfg, service{name: "billing", answer: calls.answer})
		r.push(deliveries(1, 2)...)
		time.Sleep(time.Second)
		r.pool.Cancel([]jobs.Ref{ref(1), ref(2)})
		time.Sleep(30 * time.Second)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		if len(calls.calls) != 0 || len(r.ledger.settlements()) != 0 {
			t.Errorf("calls %v, commits %d; want none", calls.calls, len(r.ledger.settlements()))
		}
	})
}

// TestCancel_NoDeadLetterForIt: the service refuses the job while somebody cancels it.
func TestCancel_NoDeadLetterForIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r *rig
		r = start(t, settings(), service{name: "billing", answer: func(_ context.Context, c *jobs.Call) jobs.CallResult {
			r.pool.Cancel([]jobs.Ref{ref(1)}) // the reply is on its way already
			return jobs.CallResult{Tries: 1, Replies: []jobs.Reply{{Status: jobs.StatusFail}}}
		}})
		r.push(deliveries(1, 1)...)
		time.Sleep(time.Second)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		if got := r.journal.with("dead"); len(got) != 0 || len(r.ledger.settlements()) != 0 {
			t.Errorf("dead letters %v, commits %d; want none", got, len(r.ledger.settlements()))
		}
	})
}
