package operate_test

import (
	"errors"
	"testing"

	"rollcall/internal/jobs"
	"rollcall/internal/operate"
)

// TestACancelThatLostToAReplicaChangesNothing: the replica commits between the look and the cancel. Its
// ack removes the job, not who was too late.
func TestACancelThatLostToAReplicaChangesNothing(t *testing.T) {
	t.Parallel()
	conn, setup, admin := administer(t)
	l := runLedger(t, conn)
	publish(t, conn, "jobs.mail", numbered(1)...)
	source, intake, _ := openSource(t, setup, conn)
	held := receive(t, intake, source, 1)
	uid := held[0].Ref.UID()
	err := admin.CancelAfter(t.Context(), uid, func() {
		settle(t, l, "batch-1", jobs.Ruling{Outcome: jobs.Succeeded, Attempt: 1}, held[0])
	})
	if !errors.Is(err, operate.ErrFinal) {
		t.Errorf("cancelled: %v, want ErrFinal", err)
	}
	if n := state(t, admin).Streams[0].Messages; n != 1 {
		t.Errorf("%d jobs are stored, want the one whose ack is to come", n)
	}
	if got := report(t, admin, uid); got.Outcome != jobs.Succeeded || got.BatchID != "batch-1" {
		t.Errorf("%+v, want it succeeded in batch-1", got)
	}
}
