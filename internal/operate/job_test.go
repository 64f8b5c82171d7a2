package operate_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/operate"
)

// settle commits deliveries as one batch that ends with ruling.
func settle(t *testing.T, l *ledger.Ledger, batchID string, ruling jobs.Ruling, held ...jobs.Delivery) {
	t.Helper()
	s := &jobs.Settlement{Batch: &jobs.Batch{ID: batchID, Pool: pool, Seal: jobs.SealSize}, SettledAt: time.Now()}
	s.Services = []jobs.ServiceReport{{Name: "billing"}}
	for _, d := range held {
		j := jobs.Decode(d, 0)
		s.Batch.Jobs = append(s.Batch.Jobs, &j)
		s.Rulings = append(s.Rulings, ruling)
		s.Replies = append(s.Replies, jobs.Replies{nil})
	}
	s.EncodeEvent(1 << 20)
	if err := l.Commit(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

func report(t *testing.T, a *operate.Admin, id string) operate.JobReport {
	t.Helper()
	r, err := a.Job(t.Context(), id)
	if err != nil {
		t.Fatalf("job %s: %v", id, err)
	}
	return r
}

func TestAJobIsFoundWhereverItIs(t *testing.T) {
	t.Parallel()
	conn, setup, admin := administer(t)
	l := runLedger(t, conn)
	js := jetStream(t, conn)
	for _, id := range []string{"first", "second", "third", "fourth"} {
		if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: "jobs.mail", Header: nats.Header{"Nats-Msg-Id": {id}}}); err != nil {
			t.Fatal(err)
		}
	}
	source, intake, _ := openSource(t, setup, conn)
	held := receive(t, intake, source, 3)
	uid := func(i int) string { return held[i].Ref.UID() }

	settle(t, l, "batch-1", jobs.Ruling{Outcome: jobs.Succeeded, Attempt: 1}, held[0])
	settle(t, l, "batch-2", jobs.Ruling{Outcome: jobs.Retrying, Attempt: 1, Burnt: true, OK: []string{"billing"}}, held[1])
	// The first is final in the ledger while its ack is still on its way.
	for _, id := range []string{"first", uid(0)} {
		if got := report(t, admin, id); got.State != operate.JobFinal || got.Outcome != "succeeded" || got.BatchID != "batch-1" || got.ID != "first" || got.UID != uid(0) || got.EventSeq == 0 {
			t.Errorf("%s: %+v", id, got)
		}
	}
	for _, id := range []string{"second", uid(1)} {
		got := report(t, admin, id)
		if got.State != operate.JobInFlight || got.Attempt != 2 || got.Published.IsZero() {
			t.Errorf("%s: %+v", id, got)
		}
		if diff := cmp.Diff([]string{"billing"}, got.Succeeded); diff != "" {
			t.Errorf("%s (-want +got):\n%s", id, diff)
		}
	}
	if got := report(t, admin, "fourth"); got.State != operate.JobWaiting || got.Subject != "jobs.mail" || got.Attempt != 1 {
		t.Errorf("fourth: %+v", got)
	}

	// Once acked, only the event says how it ended.
	failed := jobs.Ruling{Outcome: jobs.Failed, Reason: "declined", Attempt: 2}
	j := jobs.Decode(held[1], 0)
	bury(t, conn, jobs.DeadLetter{Job: &j, Ruling: &failed, BatchID: "batch-3"})
	settle(t, l, "batch-3", failed, held[1])
	for i := range held[:2] {
		if err := source.Ack(&held[i]); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the acked jobs have left the stream", func() bool { return state(t, admin).Streams[0].Messages == 2 })
	for _, id := range []string{"second", uid(1)} {
		got := report(t, admin, id)
		if got.State != operate.JobFinal || got.Outcome != "failed" || got.Reason != "declined" || got.BatchID != "batch-3" || got.DeadLetter != 1 {
			t.Errorf("%s: %+v", id, got)
		}
	}
}

func TestAJobIsFoundThoughItsIDIsEscapedInTheEvent(t *testing.T) {
	t.Parallel()
	conn, _, admin := administer(t)
	l := runLedger(t, conn)
	const id = "the \"blue\\green\" one"
	settle(t, l, "batch-1", jobs.Ruling{Outcome: jobs.Succeeded, Attempt: 1},
		jobs.Delivery{Subject: "jobs.mail", Header: nats.Header{"Nats-Msg-Id": {id}}, Ref: jobs.Ref{Epoch: "old", Seq: 1}})
	if got := report(t, admin, id); got.ID != id || got.BatchID != "batch-1" {
		t.Errorf("got %+v", got)
	}
}

func TestADelayedJobIsFoundByItsName(t *testing.T) {
	t.Parallel()
	conn, _, admin := administer(t)
	due := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	m := &nats.Msg{Subject: bus.LaterSubject("invoice-9"), Header: nats.Header{"Nats-Schedule": {"@at " + due}, "Nats-Schedule-Target": {"due.mail"}}}
	if _, err := jetStream(t, conn).PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if got := report(t, admin, "invoice-9"); got.State != operate.JobDelayed || got.Due != due || got.Subject != "jobs.mail" || got.ID != "invoice-9" {
		t.Errorf("got %+v", got)
	}
}

func TestAJobThatNeverWasIsNotFound(t *testing.T) {
	t.Parallel()
	conn, _, admin := administer(t)
	l := runLedger(t, conn)
	settle(t, l, "batch-1", jobs.Ruling{Outcome: jobs.Retrying}, jobs.Delivery{Subject: "jobs.a", Ref: jobs.Ref{Epoch: "old", Seq: 1}})
	publish(t, conn, "jobs.a", numbered(1)...)
	// The stream of this epoch is gone; the job that has its number now is another one.
	for _, id := range []string{"nobody", "old.1", "dk3x0q1z7f4w.42"} {
		if _, err := admin.Job(t.Context(), id); !errors.Is(err, operate.ErrNotFound) {
			t.Errorf("%s: %v", id, err)
		}
	}
}
