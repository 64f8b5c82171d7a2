package pool_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/internal/jobs"
)

func TestAJobGoesToTheServicesThatTakeIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.BatchSize, cfg.MaxAttempts = 5, 1
		called := &journal{}
		note := func(ctx context.Context, c *jobs.Call) jobs.CallResult {
			for _, j := range c.Jobs {
				called.add("%s %d", c.Service, j.Ref.Seq)
			}
			return allOK(ctx, c)
		}
		mail := func(subject string) bool { return strings.HasPrefix(subject, "jobs.mail") }
		r := start(t, cfg, service{name: "mailer", answer: note, takes: mail}, service{name: "index", answer: note, takes: func(s string) bool { return s != "jobs.none" }})
		all := deliveries(1, 5)
		for i, job := range []struct{ subject, services string }{{"jobs.mail.a", ""}, {"jobs.report", ""}, {"jobs.mail.b", "mailer"}, {"jobs.none", ""}, {"jobs.report", "billing"}} {
			all[i].Subject = job.subject
			if job.services != "" {
				all[i].Header = map[string][]string{jobs.HeaderServices: {job.services}}
			}
		}
		r.push(all...)
		time.Sleep(time.Second)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		got := called.all()
		slices.Sort(got)
		if diff := cmp.Diff([]string{"index 1", "index 2", "mailer 1", "mailer 3"}, got); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
		e, err := jobs.DecodeEvent(r.ledger.settlements()[0].Event)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{
			"succeeded map[index:ok mailer:ok]", "succeeded map[index:ok]", "succeeded map[mailer:ok]",
			"invalid map[] no service of this pool takes the subject jobs.none; see ROLLCALL_SVC_<NAME>_SUBJECTS",
			`invalid map[] header Rollcall-Services names "billing", and this pool has no such service; it has mailer, index`,
		}
		for i, j := range e.Data.Jobs {
			if got := strings.TrimSpace(fmt.Sprint(j.Outcome, " ", j.Services, " ", j.Reason)); got != want[i] {
				t.Errorf("job %d: %s\nwant %s", i+1, got, want[i])
			}
		}
		if n := r.counter.of(jobs.Skipped); n != 2 {
			t.Errorf("%d jobs were skipped, want 2", n)
		}
	})
}

// TestARouteIsLookedAtAnewAtEveryAttempt: a deploy may change it between two of them.
func TestARouteIsLookedAtAnewAtEveryAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := settings()
		cfg.BatchSize = 1
		changed := time.Now().Add(30 * time.Second)
		r := prepare(t)
		r.redeliver()
		r.start(t, cfg,
			service{name: "a", answer: allOK},
			service{name: "b", answer: poisoned(func(uint64) bool { return true }), takes: func(string) bool { return time.Now().Before(changed) }})
		r.push(delivery(1))
		time.Sleep(10 * time.Minute)
		if err := r.stop(); err != nil {
			t.Fatalf("run: %v", err)
		}
		if n := r.finished(); n != 1 {
			t.Errorf("the job waits for a service that does not take it any more")
		}
	})
}
