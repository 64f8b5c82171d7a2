package operate_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
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

// TestDueJobsThatWaitForRoomAreSeen, and not cancelled while they may enter the job stream at any moment; the other
// members of their set are.
func TestDueJobsThatWaitForRoomAreSeen(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	publishJob(t, conn, "first", nil)
	resize := func(most int64) {
		editStream(t, conn, "JOBS", func(config *jetstream.StreamConfig) { config.MaxMsgs = most })
	}
	resize(1)
	soon := time.Now().Add(300 * time.Millisecond).UTC().Format(time.RFC3339Nano)
	set := nats.Header{"Rollcall-Set": {"s"}}
	delayJob(t, conn, "waits", nats.Header{"Rollcall-Set": {"s"}, "Nats-Schedule": {"@at " + soon}})
	delayJob(t, conn, "next-year", set)
	later, err := jetStream(t, conn).Stream(t.Context(), bus.StreamLater)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the job is due", func() bool {
		_, err := later.GetLastMsgForSubject(t.Context(), "due.a")
		return err == nil
	})
	admin := adminOf(conn)
	if got := report(t, admin, "waits"); got.State != operate.JobDelayed || got.Subject != "jobs.a" {
		t.Errorf("Job(waits) = %+v", got)
	}
	if _, err := admin.Cancel(patient(t), "me", "waits"); !errors.Is(err, operate.ErrDue) {
		t.Errorf("Cancel(waits): %v", err)
	}
	if _, err := admin.Erase(patient(t), "me", "waits"); !errors.Is(err, operate.ErrDue) {
		t.Errorf("Erase(waits): %v", err)
	}
	if done, err := admin.CancelSet(patient(t), "me", "s"); !errors.Is(err, operate.ErrDue) || done.Cancelled != 1 {
		t.Errorf("CancelSet() = %+v, %v; want the other member cancelled", done, err)
	}
	resize(-1)
	eventually(t, "the job has entered", func() bool { return stateOf(t, conn, "JOBS").Msgs == 2 })
	if done, err := admin.CancelSet(patient(t), "me", "s"); err != nil || done.Cancelled != 1 {
		t.Errorf("CancelSet() = %+v, %v", done, err)
	}
	if got := report(t, admin, "waits"); got.Outcome != jobs.Cancelled {
		t.Errorf("Job(waits) = %+v", got)
	}
}

// TestAJobThatWasCancelledIsFinal, also where the stream keeps it and no replica has taken it.
func TestAJobThatWasCancelledIsFinal(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	if _, err := jetStream(t, conn).CreateStream(t.Context(), jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}}); err != nil {
		t.Fatal(err)
	}
	s := streams()
	s.Stream, s.Subjects, s.Start = "ORDERS", []string{"orders.>"}, bus.StartAll
	if _, _, err := bus.NewSetup(conn, s, pool).Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := jetStream(t, conn).PublishMsg(t.Context(), &nats.Msg{Subject: "orders.a", Header: nats.Header{"ce-id": {"order"}}, Data: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	admin := operate.NewAdmin(conn, s, pool)
	cancelled, err := admin.Cancel(patient(t), "me", "order")
	if err != nil {
		t.Fatal(err)
	}
	if got := report(t, admin, "order"); got.State != operate.JobFinal || got.Outcome != jobs.Cancelled || got.Attempt != cancelled.Attempt {
		t.Errorf("Job() = %+v after Cancel() = %+v", got, cancelled)
	}
}

// TestACancelThatWasCutShortIsFinished by the next one, in the same event, whatever the job is named by.
func TestACancelThatWasCutShortIsFinished(t *testing.T) {
	t.Parallel()
	for name, named := range map[string]nats.Header{
		"ce-id": {"ce-id": {"job"}}, "Nats-Msg-Id": {"Nats-Msg-Id": {"job"}}, "where it waits": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, startServer(t))
			ensure(t, conn, streams())
			header := nats.Header{"Rollcall-Set": {"s"}, "Nats-Schedule": {"@at 2099-01-01T00:00:00Z"}, "Nats-Schedule-Target": {"due.a"}}
			for name, values := range named {
				header[name] = values
			}
			js := jetStream(t, conn)
			if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: bus.LaterSubject("place"), Header: header, Data: []byte("{}")}); err != nil {
				t.Fatal(err)
			}
			later, err := js.Stream(t.Context(), bus.StreamLater)
			if err != nil {
				t.Fatal(err)
			}
			m, err := conn.Msg(patient(t), later, 1)
			if err != nil {
				t.Fatal(err)
			}
			admin := adminOf(conn)
			if _, err := admin.Cancel(patient(t), "me", "place"); err != nil {
				t.Fatal(err)
			}
			if _, err := js.PublishMsg(t.Context(), bus.HeldJob(m, m.Sequence, time.Now().Add(time.Hour))); err != nil { // it was held, and not removed
				t.Fatal(err)
			}
			if _, err := admin.Cancel(patient(t), "me", "place"); err != nil {
				t.Fatal(err)
			}
			if uids := cancelledUIDs(t, conn); len(uids) != 1 {
				t.Errorf("events name %v, want one", uids)
			}
			if n := stateOf(t, conn, bus.StreamLater).Msgs; n != 0 {
				t.Errorf("%d messages are left in LATER", n)
			}
		})
	}
}

// TestACancelThatWasCutShortHasItsEvent also where another job had said, before, that its number was its own.
func TestACancelThatWasCutShortHasItsEvent(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	victim := delayJob(t, conn, "victim", nil)
	later, err := jetStream(t, conn).Stream(t.Context(), bus.StreamLater)
	if err != nil {
		t.Fatal(err)
	}
	m, err := conn.Msg(patient(t), later, victim)
	if err != nil {
		t.Fatal(err)
	}
	delayJob(t, conn, "evil", nats.Header{"Rollcall-Held": {strconv.FormatUint(victim, 10)}})
	admin := adminOf(conn)
	if _, err := admin.Cancel(patient(t), "me", "evil"); err != nil {
		t.Fatal(err)
	}
	if _, err := jetStream(t, conn).PublishMsg(t.Context(), bus.HeldJob(m, victim, time.Now().Add(time.Hour))); err != nil { // it was held, and not ended
		t.Fatal(err)
	}
	if _, err := admin.Cancel(patient(t), "me", "victim"); err != nil {
		t.Fatal(err)
	}
	if uids := cancelledUIDs(t, conn); len(uids) != 2 {
		t.Errorf("events name %v, want both jobs", uids)
	}
}
