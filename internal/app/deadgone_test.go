package app_test

import (
	"fmt"
	"testing"

	"rollcall/internal/faulttest"
)

// Somebody deletes DEAD while the pool works: the batch mates of jobs that fail go on, the stream
// is made again, and then the jobs that failed end with their dead letters.
func TestDeadLettersGoneAreMadeAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"})
	r.services["billing"].Answer(faulttest.Each(func(j faulttest.Asked) string {
		if j.ID == "bad" {
			return "fail"
		}
		return "ok"
	}))
	r.start("ROLLCALL_BATCH_LINGER=200ms")
	faulttest.Until(t, limit, "the pool pulls", func() bool {
		consumer, err := r.js.Consumer(t.Context(), "JOBS", "default")
		return err == nil && consumer.CachedInfo().NumWaiting > 0
	})
	if err := r.js.DeleteStream(t.Context(), "DEAD"); err != nil {
		t.Fatal(err)
	}
	for i := range 9 {
		r.send("jobs.test", fmt.Sprint("good-", i), "1")
	}
	r.send("jobs.test", "bad", "1")
	h := ends(r.judge())
	if h["bad"].Outcome != "failed" || h["good-0"].Outcome != "succeeded" {
		t.Errorf("got %+v", h)
	}
	dead, err := r.js.Stream(t.Context(), "DEAD")
	if err != nil || dead.CachedInfo().State.Msgs != 1 {
		t.Errorf("DEAD holds %+v, %v; want the letter of the job that failed", dead, err)
	}
}
