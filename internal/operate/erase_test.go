package operate_test

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go"

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
