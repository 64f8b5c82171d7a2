package app_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"rollcall/internal/faulttest"
)

// The sizes and shapes of jobs at the limits of what a server takes.
func TestJobsAtTheLimits(t *testing.T) {
	t.Parallel()
	const payload = 64 << 10
	r := newRigOn(t, small(payload), []string{"billing"}, "ROLLCALL_BATCH_BYTES=1KiB", "ROLLCALL_BATCHES_IN_FLIGHT=1")
	r.services["billing"].Answer(faulttest.Each(func(j faulttest.Asked) string {
		if len(j.Data) == payload {
			return "fail" // its dead letter has to be cut
		}
		return "ok"
	}))
	full := `"` + strings.Repeat("x", payload-2) + `"`
	r.send("jobs.test", "", full)
	r.send("jobs.test", "empty", "")
	r.send("jobs.test", "", "")
	r.send("jobs.test", "", "", "Tenant-Id", "acme")
	r.send("jobs.test", strings.Repeat("i", 30<<10), "1")
	r.send("jobs."+strings.Repeat("s", 3<<10), "long subject", "1", "ce-type", strings.Repeat("t", 20<<10))
	r.start()
	h := r.judge()
	got := map[string]int{}
	for _, e := range h.Events {
		got["succeeded"] += e.Data.Counts.Succeeded
		got["failed"] += e.Data.Counts.Failed
	}
	if got["succeeded"] != 5 || got["failed"] != 1 {
		t.Errorf("ended: %v", got)
	}
	letter := r.stored("DEAD")[0]
	if letter.Header.Get("Rollcall-Truncated") != "true" || !bytes.HasPrefix([]byte(full), letter.Data) || len(letter.Data) < payload-1024 {
		t.Errorf("the letter has %d bytes and the headers %v", len(letter.Data), letter.Header)
	}
}

// A batch of the largest size allowed is one event, also on a server that takes little.
func TestTheLargestBatchIsOneEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"}, "ROLLCALL_BATCH_SIZE=900", "ROLLCALL_BATCH_LINGER=20s", "ROLLCALL_BATCHES_IN_FLIGHT=1")
	r.load.Publish(1800, limit)
	r.start()
	h := r.judge()
	if len(h.Events) != 2 || h.Events[0].Data.Counts.Succeeded != 900 || h.Events[1].Data.Counts.Succeeded != 900 {
		t.Errorf("%d events", len(h.Events))
	}
}

func TestLargeBatchesOnAServerThatTakesLittle(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, small(8<<10), []string{"billing", "search"}, "ROLLCALL_BATCH_SIZE=900", "ROLLCALL_MAX_ATTEMPTS=2")
	r.services["search"].Answer(results(func(j faulttest.Asked) map[string]any {
		return map[string]any{"status": "retry", "error": strings.Repeat("long reason ", 100), "data": j.ID}
	}))
	r.load.Publish(300, limit)
	r.start()
	h := r.judge()
	failed := 0
	for _, e := range h.Events {
		failed += e.Data.Counts.Failed
	}
	if failed != 300 {
		t.Errorf("%d jobs failed, want 300", failed)
	}
}

// A key of a batch is text of a producer, and may be as long as a header.
func TestAKeyMayBeLong(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, small(8<<10), []string{"billing"}, "ROLLCALL_BATCH_KEY=header:Tenant-Id")
	long := strings.Repeat("k", 8000)
	for i := range 20 {
		r.send("jobs.test", fmt.Sprintf("long %d", i), "1", "Tenant-Id", long)
	}
	r.send("jobs.test", "odd", "1", "Tenant-Id", "\xff\"\\")
	r.start()
	h := r.judge()
	if got := ends(h); len(got) != 21 {
		t.Errorf("ended: %+v", got)
	}
	for _, e := range h.Events {
		if e.Data.Key == "" || !strings.HasPrefix(long, e.Data.Key) && len(e.Data.Jobs) != 1 {
			t.Errorf("the key is %q", e.Data.Key)
		}
	}
}

// The smallest settings work.
func TestOneJobABatchWithoutLinger(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"}, "ROLLCALL_BATCH_SIZE=1", "ROLLCALL_BATCH_LINGER=0", "ROLLCALL_BATCHES_IN_FLIGHT=1")
	r.start()
	r.load.Publish(50, limit)
	if h := r.judge(); len(h.Events) != 50 {
		t.Errorf("%d events for 50 jobs", len(h.Events))
	}
}

// Several filters on a stream of one's own, written with blanks as people do.
func TestAPoolTakesSeveralSubjects(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"}, "ROLLCALL_POOL=mail_and-sms", "ROLLCALL_STREAM=MAIL", "ROLLCALL_SUBJECTS=mail.*, sms.>")
	r.start()
	for _, subject := range []string{"mail.ann", "sms.bob", "sms.bob.urgent"} {
		r.send(subject, subject, "1")
	}
	if got := ends(r.judge()); len(got) != 3 {
		t.Errorf("ended: %v", got)
	}
}

// 204 has no body and means, like every 2xx without one, that all is well.
func TestNoContentMeansAllIsWell(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing", "search"})
	for code, name := range map[int]string{http.StatusNoContent: "billing", http.StatusAccepted: "search"} {
		r.services[name].Answer(func(faulttest.Request) faulttest.Answer { return faulttest.Answer{Status: code} })
	}
	r.load.Publish(3, limit)
	r.start()
	for id, j := range ends(r.judge()) {
		if j.Outcome != "succeeded" || fmt.Sprint(j.Services) != "map[billing:ok search:ok]" {
			t.Errorf("job %s: %+v", id, j)
		}
	}
}
