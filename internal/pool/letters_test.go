package pool_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/internal/jobs"
)

// TestJobsWhoseDeadLettersCannotBeStoredWaitAndTheirMatesGoOn: a full stream of dead letters must
// hold up nobody but the jobs that failed, cost no storage meanwhile, and lose nothing.
func TestJobsWhoseDeadLettersCannotBeStoredWaitAndTheirMatesGoOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 40
		bad := func(seq uint64) bool { return seq%10 == 0 }
		cfg := settings()
		cfg.BatchSize = 10
		r := prepare(t)
		r.redeliver()
		r.letters.full.Store(true)
		r.ledger.set(30, jobs.Record{Lone: 3}) // a crash loop keeps its lone runs
		r.start(t, cfg, service{name: "a", answer: func(ctx context.Context, c *jobs.Call) jobs.CallResult {
			result := allOK(ctx, c)
			for i, j := range c.Jobs {
				if bad(j.Ref.Seq) {
					result.Replies[i] = jobs.Reply{Status: jobs.StatusFail, Error: "declined"}
				}
				if j.Ref.Seq == 30 {
					t.Error("a crash loop was called for")
				}
			}
			return result
		}})
		all := deliveries(1, n)
		all[29].Delivered = 9
		r.push(all...)
		time.Sleep(10 * time.Second)
		if done := r.finished(); done != n-4 {
			t.Errorf("%d jobs are done, want the %d that did not fail", done, n-4)
		}
		events := len(r.ledger.settlements())
		time.Sleep(20 * time.Minute)
		if more := len(r.ledger.settlements()) - events; more != 0 {
			t.Errorf("%d events of jobs that wait", more)
		}
		r.letters.full.Store(false)
		time.Sleep(5 * time.Minute)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		dead := r.journal.with("dead")
		if done := r.finished(); done != n || len(dead) != 4 {
			t.Errorf("%d of %d jobs are done, dead letters %v", done, n, dead)
		}
		last := r.ledger.settlements()[len(r.ledger.settlements())-1]
		if reason := last.Rulings[0].Reason; !strings.Contains(reason, "declined") && reason != jobs.ReasonCrashLoop {
			t.Errorf("reason %q", reason)
		}
	})
}
