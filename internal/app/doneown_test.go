package app_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/faulttest"
)

// With ROLLCALL_DONE=own events and ledger lie in a stream of the pool, and reach listeners and
// the next replica as ever.
func TestAPoolMayKeepEventsAndLedgerInAStreamOfItsOwn(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"}, "ROLLCALL_DONE=own")
	heard, err := r.nc.SubscribeSync("batches.default.>")
	if err != nil {
		t.Fatal(err)
	}
	stop := r.start()
	r.send("jobs.test", "a", "1")
	m, err := heard.NextMsg(limit)
	if err != nil || !strings.HasPrefix(m.Subject, "batches.default.succeeded.") {
		t.Fatalf("heard %v, %v", m, err)
	}
	faulttest.WaitRest(t, r.js, "JOBS", "default", limit)
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := r.js.Stream(t.Context(), "DONE"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("DONE was made too: %v", err)
	}
	own, err := r.js.Stream(t.Context(), "DONE_default")
	if err != nil {
		t.Fatal(err)
	}
	for _, filter := range []string{"done.batches.default.succeeded.*", "done.ledger.default.page.>"} {
		if _, err := own.GetMsg(t.Context(), 1, jetstream.WithGetMsgSubject(filter)); err != nil {
			t.Errorf("nothing on %s: %v", filter, err)
		}
	}
	if plan := r.setup(r.config()); len(plan.Created) != 0 || len(plan.Differences) != 0 {
		t.Errorf("setup finds %+v", plan)
	}
}
