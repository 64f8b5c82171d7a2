package app_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"rollcall/internal/app"
	"rollcall/internal/bus"
	"rollcall/internal/faulttest"
	"rollcall/internal/operate"
)

// TestARenamedPoolCarriesOnFromItsOldLedger: it is refused until it has taken the ledger of its old
// name over, whether or not the old consumer still stands. Then no service is called again that
// had succeeded for a job.
func TestARenamedPoolCarriesOnFromItsOldLedger(t *testing.T) {
	t.Parallel()
	for name, consumerStands := range map[string]bool{"the old consumer stands": true, "the old consumer is gone": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, []string{"billing", "index"}, "ROLLCALL_POOL=old")
			const n = 40
			r.services["index"].Answer(faulttest.Each(func(faulttest.Asked) string { return "retry" }))
			stop := r.start()
			r.load.Publish(n, limit)
			eventually(t, "billing has succeeded for all", func() bool { return succeeded(t, r) == n })
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			calls := len(r.services["billing"].Calls())
			if !consumerStands {
				if err := r.js.DeleteConsumer(t.Context(), "JOBS", "old"); err != nil {
					t.Fatal(err)
				}
			}
			r.services["index"].Answer(faulttest.Each(func(faulttest.Asked) string { return "ok" }))

			r.env = append(r.env, "ROLLCALL_POOL=new")
			opts := app.Options{NATS: []nats.Option{r.inProcess}}
			err := app.Run(t.Context(), r.config(), zerolog.Nop(), opts)
			if err == nil || !strings.Contains(err.Error(), "worker setup --take-over") || errors.Is(err, app.ErrTakeOver) == consumerStands {
				t.Errorf("Run() = %v, want it refused with the command that takes the ledger over", err)
			}
			if _, err := app.Setup(t.Context(), r.config(), zerolog.Nop(), opts, true); errors.Is(err, app.ErrTakeOver) == consumerStands {
				t.Errorf("a dry run of the setup: %v", err)
			}
			findings, err := app.Doctor(t.Context(), r.config(), zerolog.Nop(), opts, "")
			if err != nil {
				t.Fatal(err)
			}
			told := slices.ContainsFunc(findings, func(f operate.Finding) bool {
				return f.Check == "pool" && f.Health == operate.Broken && strings.Contains(f.Detail, "worker setup --take-over old")
			})
			if told == consumerStands {
				t.Errorf("the doctor finds %+v", findings)
			}
			for i := range 2 { // the second time there is nothing left to do
				plan, err := app.TakeOver(t.Context(), r.config(), zerolog.Nop(), opts, "old")
				if err != nil || (plan.Moved > 0) != (i == 0) {
					t.Fatalf("take-over %d: %+v, %v", i, plan, err)
				}
			}
			r.start()
			faulttest.WaitRest(t, r.js, "JOBS", "new", limit)
			for id, e := range ends(r.judge()) {
				if e.Outcome.String() != "succeeded" {
					t.Errorf("job %s ended as %s", id, e.Outcome)
				}
			}
			if again := len(r.services["billing"].Calls()) - calls; again != 0 {
				t.Errorf("billing was called for %d jobs again after its success", again)
			}
		})
	}
}

// keepDone makes the job stream one that keeps what is done.
func (r *rig) keepDone() jetstream.Stream {
	r.t.Helper()
	err := r.js.DeleteStream(r.t.Context(), "JOBS")
	if err != nil {
		r.t.Fatal(err)
	}
	stream, err := r.js.CreateStream(r.t.Context(), jetstream.StreamConfig{Name: "JOBS", Subjects: []string{"jobs.>"}})
	if err != nil {
		r.t.Fatal(err)
	}
	return stream
}

// TestASuccessorBeginsWhereItsPredecessorHasGotTo in a stream that keeps what is done, without being told where to begin.
func TestASuccessorBeginsWhereItsPredecessorHasGotTo(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"}, "ROLLCALL_POOL=old")
	stream := r.keepDone()
	stop := r.start("ROLLCALL_START=all")
	r.load.Publish(40, limit)
	eventually(t, "all are acked", func() bool {
		consumer, err := stream.Consumer(t.Context(), "old")
		return err == nil && consumer.CachedInfo().AckFloor.Stream == 40
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	done, err := r.js.Stream(t.Context(), "DONE")
	if err == nil { // as the sweeper does after the horizon
		err = done.Purge(t.Context(), jetstream.WithPurgeSubject("done.ledger.old.page.>"))
	}
	if err != nil {
		t.Fatal(err)
	}
	r.load.Publish(5, limit)
	r.env = append(r.env, "ROLLCALL_POOL=new")
	opts := app.Options{NATS: []nats.Option{r.inProcess}}
	if _, err := app.TakeOver(t.Context(), r.config(), zerolog.Nop(), opts, "old"); err != nil {
		t.Fatal(err)
	}
	if _, err := app.TakeOver(t.Context(), r.config(), zerolog.Nop(), opts, "old"); err != nil {
		t.Errorf("the second time: %v", err)
	}
	r.start()
	eventually(t, "the others are done", func() bool { return succeeded(t, r) == 45 })
	if calls := len(r.services["billing"].Calls()); calls != 45 {
		t.Errorf("billing was called for jobs %d times, want once for each of 45", calls)
	}
}

// TestWhatCannotBeTakenOverStays as it is, and the message says what to do.
func TestWhatCannotBeTakenOverStays(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		env  []string
		old  string
		want error
		says string
	}{
		"no such pool":                      {nil, "typo", app.ErrMissing, "no consumer of that name"},
		"other subjects":                    {[]string{"ROLLCALL_SUBJECTS=jobs.c.>"}, "old", bus.ErrRefusedSetup, "ROLLCALL_SUBJECTS"},
		"a ledger of its own":               {[]string{"ROLLCALL_DONE=own"}, "old", bus.ErrRefusedSetup, "ROLLCALL_DONE=own"},
		"more subjects":                     {[]string{"ROLLCALL_STREAM=ORDERS", "ROLLCALL_SUBJECTS=orders.>,more.>"}, "old", bus.ErrRefusedSetup, "take more afterwards"},
		"a successor that stands elsewhere": {[]string{"ROLLCALL_STREAM=ORDERS", "ROLLCALL_SUBJECTS=orders.>", "ROLLCALL_START=new"}, "old", bus.ErrRefusedSetup, "nats consumer rm ORDERS new"},
		"this pool":                         {nil, "new", bus.ErrRefusedSetup, "it is this pool"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, []string{"billing"}, "ROLLCALL_POOL=old")
			of := "JOBS"
			if slices.Contains(test.env, "ROLLCALL_STREAM=ORDERS") { // it keeps what is done
				of = "ORDERS"
				if _, err := r.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: of, Subjects: []string{"orders.>", "more.>"}}); err != nil {
					t.Fatal(err)
				}
				r.env = append(r.env, "ROLLCALL_STREAM=ORDERS", "ROLLCALL_SUBJECTS=orders.>", "ROLLCALL_START=all")
				r.setup(r.config())
				r.load = faulttest.NewLoad(t, r.js, of, "orders.test")
			}
			stop := r.start()
			r.load.Publish(3, limit)
			eventually(t, "all are acked", func() bool {
				consumer, err := r.js.Consumer(t.Context(), of, "old")
				return err == nil && consumer.CachedInfo().AckFloor.Stream == 3
			})
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			if name == "a successor that stands elsewhere" {
				r.load.Publish(3, limit)
				r.setup(r.config("ROLLCALL_POOL=new", "ROLLCALL_START=new"))
			}
			before := len(r.stored("DONE"))
			r.env = append(append(r.env, "ROLLCALL_POOL=new"), test.env...)
			opts := app.Options{NATS: []nats.Option{r.inProcess}}
			if _, err := app.TakeOver(t.Context(), r.config(), zerolog.Nop(), opts, test.old); !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("TakeOver() = %v", err)
			}
			if _, err := r.js.Consumer(t.Context(), of, "old"); err != nil {
				t.Errorf("the consumer of the old pool: %v", err)
			}
			if after := len(r.stored("DONE")); after != before {
				t.Errorf("DONE has %d messages and had %d", after, before)
			}
		})
	}
}

// succeeded counts the jobs for which an event says that billing has succeeded.
func succeeded(t *testing.T, r *rig) int {
	t.Helper()
	events, err := faulttest.Events(t.Context(), r.js)
	if err != nil {
		t.Fatal(err)
	}
	ok := map[string]bool{}
	for _, e := range events {
		for _, j := range e.Data.Jobs {
			if fmt.Sprint(j.Services["billing"]) == "ok" {
				ok[j.UID] = true
			}
		}
	}
	return len(ok)
}

// TestPoolsSideBySideAreNotTakenForEachOther: another pool lives on the same stream with subjects of
// its own, and a third one has been given up with nothing left to do.
func TestPoolsSideBySideAreNotTakenForEachOther(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"}, "ROLLCALL_POOL=done", "ROLLCALL_SUBJECTS=jobs.done")
	stop := r.start()
	r.load = faulttest.NewLoad(t, r.js, "JOBS", "jobs.done")
	r.load.Publish(20, limit)
	faulttest.WaitRest(t, r.js, "JOBS", "done", limit)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := r.js.DeleteConsumer(t.Context(), "JOBS", "done"); err != nil {
		t.Fatal(err)
	}
	r.env = append(r.env, "ROLLCALL_POOL=fresh", "ROLLCALL_SUBJECTS=jobs.fresh")
	r.load = faulttest.NewLoad(t, r.js, "JOBS", "jobs.fresh")
	r.load.Publish(20, limit)
	r.start()
	faulttest.WaitRest(t, r.js, "JOBS", "fresh", limit)
}

// TestAPoolThatBeginsWithNewJobsNeedsNobodysLedger: what another pool has left in a stream that
// keeps what is done does not wait for it, neither before nor after it has made its consumer.
func TestAPoolThatBeginsWithNewJobsNeedsNobodysLedger(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"}, "ROLLCALL_POOL=old")
	stream := r.keepDone()
	stop := r.start("ROLLCALL_START=all") // the jobs may be there before the pool
	r.load.Publish(40, limit)
	eventually(t, "all are done", func() bool { return succeeded(t, r) == 40 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := r.js.DeleteConsumer(t.Context(), "JOBS", "old"); err != nil {
		t.Fatal(err)
	}
	calls := len(r.services["billing"].Calls())
	r.env = append(r.env, "ROLLCALL_POOL=new", "ROLLCALL_START=new")
	for range 2 {
		stop := r.start()
		eventually(t, "the pool pulls", func() bool {
			consumer, err := stream.Consumer(t.Context(), "new")
			return err == nil && consumer.CachedInfo().NumWaiting > 0
		})
		if err := stop(); err != nil {
			t.Fatalf("the pool is refused: %v", err)
		}
	}
	if n := len(r.services["billing"].Calls()) - calls; n != 0 {
		t.Errorf("%d calls for jobs that were there before", n)
	}
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(limit)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
