package operate_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/operate"
)

// TestErase_RemovesAJobThatAnEarlierErasureOnlyEnded: the command died between the commit and the
// removal, and no replica has acked the job yet.
func TestErase_RemovesAJobThatAnEarlierErasureOnlyEnded(t *testing.T) {
	t.Parallel()
	conn, _, admin := administer(t)
	js := jetStream(t, conn)
	if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: "jobs.mail", Header: nats.Header{"Nats-Msg-Id": {"ann-1"}}}); err != nil {
		t.Fatal(err)
	}
	if err := admin.EndWithoutRemoving(t.Context(), "ann-1"); err != nil {
		t.Fatal(err)
	}
	done, err := admin.Erase(t.Context(), "operator", "ann-1")
	if want := (operate.Erasure{Jobs: 1, Events: 1}); err != nil || done != want {
		t.Errorf("Erase() = %+v, %v; want %+v", done, err, want)
	}
	stream, err := js.Stream(t.Context(), "JOBS")
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Msgs; n != 0 {
		t.Errorf("%d jobs are left in the stream", n)
	}
	if _, err := admin.Erase(t.Context(), "operator", "ann-1"); !errors.Is(err, operate.ErrNotFound) {
		t.Errorf("a second time: %v, want %v", err, operate.ErrNotFound)
	}
}

// TestErase_RemovesNoEventThatItMayNotPublishAnew: a right is missing, which shows before anything is
// lost.
func TestErase_RemovesNoEventThatItMayNotPublishAnew(t *testing.T) {
	t.Parallel()
	root, user := restricted(t, []string{"$JS.API.>", "done.batches.test.*.*", "done.ledger.test.>", "$SRV.>", "rollcall.>"}, ">")
	event := jobs.NewSetEvent(pool, "import", jobs.SetTally{Size: 1, Counts: jobs.SetCounts{Total: 1, Failed: 1}, Failed: []jobs.SetFailure{
		{ID: "ann-1", UID: "e.1", Outcome: jobs.Failed, Reason: "no such account"},
	}}, jobs.SetFailed, time.Now())
	data, err := event.Encode(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	js, subject := jetStream(t, root), bus.SetEventSubject(pool, jobs.SetFailed, "import")
	if _, err := js.Publish(t.Context(), subject, data); err != nil {
		t.Fatal(err)
	}
	heeding, stop := user.HeedSubject(t.Context(), "")
	defer stop()
	done, err := adminOf(user).Erase(heeding, "operator", "ann-1")
	if err = bus.Refused(heeding, err); !errors.Is(err, bus.ErrDenied) || !strings.Contains(err.Error(), "publish done.sets.test") {
		t.Errorf("Erase() = %+v, %v; want the right that is missing", done, err)
	}
	stream, err := js.Stream(t.Context(), "DONE")
	if err != nil {
		t.Fatal(err)
	}
	if m, err := stream.GetLastMsgForSubject(t.Context(), subject); err != nil || !bytes.Equal(m.Data, data) {
		t.Errorf("the event is %+v, %v; want it as it was", m, err)
	}
}
