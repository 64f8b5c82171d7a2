package operate_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/operate"
)

// zombie leaves letters as a worker does that has lost its jobs, and returns them: of a job that
// succeeded elsewhere, one that goes on, and one that failed where the letter says so.
func zombie(t *testing.T) (conn *bus.Conn, admin *operate.Admin) {
	t.Helper()
	conn, setup, admin := administer(t)
	l := runLedger(t, conn)
	publish(t, conn, "jobs.mail", numbered(3)...)
	source, intake, _ := openSource(t, setup, conn)
	held := receive(t, intake, source, 3)
	failed := jobs.Ruling{Outcome: jobs.Failed, Reason: "declined", Service: "billing", Attempt: 1}
	for i := range held {
		j := jobs.Decode(held[i], 0)
		batch := "zombie"
		if i == 2 {
			batch = "true"
		}
		bury(t, conn, jobs.DeadLetter{Job: &j, Ruling: &failed, BatchID: batch})
	}
	settle(t, l, "other", jobs.Ruling{Outcome: jobs.Succeeded, Attempt: 1}, held[0])
	settle(t, l, "retried", jobs.Ruling{Outcome: jobs.Retrying, Attempt: 1, Burnt: true}, held[1])
	settle(t, l, "true", failed, held[2])
	return conn, admin
}

func TestLettersOfJobsThatEndedElsewhereAreMarked(t *testing.T) {
	t.Parallel()
	_, admin := zombie(t)
	var got []bus.Letter
	if err := admin.Letters(t.Context(), operate.LetterFilter{}, func(l bus.Letter) error {
		got = append(got, l)
		return nil
	}); err != nil || len(got) != 3 {
		t.Fatalf("%d letters, %v", len(got), err)
	}
	for i, want := range []bus.Letter{{Elsewhere: jobs.Succeeded, ElsewhereBatch: "other"}, {Elsewhere: jobs.Retrying}, {}} {
		if got[i].Elsewhere != want.Elsewhere || got[i].ElsewhereBatch != want.ElsewhereBatch {
			t.Errorf("letter %d: %q in %q, want %q in %q", i+1, got[i].Elsewhere, got[i].ElsewhereBatch, want.Elsewhere, want.ElsewhereBatch)
		}
	}
}

func TestLettersOfJobsThatEndedElsewhereAreNotReplayed(t *testing.T) {
	t.Parallel()
	_, admin := zombie(t)
	for seq, says := range map[uint64]string{1: "succeeded in batch other", 2: "has not ended"} {
		for _, err := range []error{second(admin.Replay(t.Context(), seq, false)), admin.Replayable(t.Context(), seq, false)} {
			if !errors.Is(err, operate.ErrNotReplayable) || !strings.Contains(err.Error(), says) {
				t.Errorf("letter %d: %v, want ErrNotReplayable and %q", seq, err, says)
			}
		}
	}
	if got := state(t, admin); got.DeadLetters != 3 || got.Streams[0].Messages != 3 {
		t.Errorf("%d letters and %d jobs, want 3 of each", got.DeadLetters, got.Streams[0].Messages)
	}
	if _, err := admin.Replay(t.Context(), 1, true); err != nil {
		t.Errorf("with the order to, all the same: %v", err)
	}
	if _, err := admin.Replay(t.Context(), 3, false); err != nil {
		t.Errorf("a job that failed: %v", err)
	}
}

func TestTheHistoryOfAJobIsATimeLine(t *testing.T) {
	t.Parallel()
	conn, setup, admin := administer(t)
	l := runLedger(t, conn)
	publish(t, conn, "jobs.mail", numbered(1)...)
	source, intake, _ := openSource(t, setup, conn)
	held := receive(t, intake, source, 1)
	uid := held[0].Ref.UID()
	again := jobs.Ruling{Outcome: jobs.Retrying, Attempt: 1, Burnt: true, Reason: "billing is busy", Service: "billing", Delay: time.Hour}
	settle(t, l, "batch-1", again, held[0])
	got := report(t, admin, uid)
	if got.State != operate.JobRetrying || got.Attempt != 2 || got.Reason != "billing is busy" || time.Until(got.NextAttempt) < 59*time.Minute {
		t.Errorf("between two attempts: %+v", got)
	}
	steps := func(r operate.JobReport) string {
		var all []string
		for _, s := range r.History {
			all = append(all, string(s.What))
		}
		return strings.Join(all, " ")
	}
	if s := steps(got); s != "published attempt" {
		t.Errorf("between two attempts the history is %q", s)
	}
	failed := jobs.Ruling{Outcome: jobs.Failed, Reason: "declined", Attempt: 2}
	j := jobs.Decode(held[0], 0)
	bury(t, conn, jobs.DeadLetter{Job: &j, Ruling: &failed, BatchID: "batch-2"})
	settle(t, l, "batch-2", failed, held[0])
	if err := source.Ack(&held[0]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the job has left the stream", func() bool { return state(t, admin).Streams[0].Messages == 0 })
	if got = report(t, admin, uid); got.DeadLetter != 1 || got.Outcome != jobs.Failed {
		t.Errorf("at its end: %+v", got)
	}
	if s := steps(got); s != "published attempt dead_letter final" && s != "published attempt final dead_letter" {
		t.Errorf("at its end the history is %q", s)
	}
	if late := got.Published.Sub(held[0].Published).Abs(); late > time.Millisecond {
		t.Errorf("published %v, want %v", got.Published, held[0].Published)
	}
	ref, err := admin.Replay(t.Context(), 1, false)
	if err != nil {
		t.Fatal(err)
	}
	settle(t, l, "batch-3", jobs.Ruling{Outcome: jobs.Succeeded, Attempt: 1}, receive(t, intake, source, 1)[0])
	got = report(t, admin, uid)
	if last := got.History[len(got.History)-1]; last.What != operate.StepReplayed || last.UID != ref.UID() || last.Outcome != jobs.Succeeded {
		t.Errorf("after the replay the history ends with %+v, want the end of %s", last, ref.UID())
	}
	if got.Outcome != jobs.Failed {
		t.Errorf("the replay changed the outcome of the job: %+v", got)
	}
}

// TestEveryReplayIsInTheTimeLine: a replay that fails is replayed again, of a job with a name of its
// producer's, which its replays have too.
func TestEveryReplayIsInTheTimeLine(t *testing.T) {
	t.Parallel()
	conn, setup, admin := administer(t)
	l := runLedger(t, conn)
	if _, err := jetStream(t, conn).PublishMsg(t.Context(), &nats.Msg{Subject: "jobs.mail", Header: nats.Header{"ce-id": {"invoice-1"}}}); err != nil {
		t.Fatal(err)
	}
	source, intake, _ := openSource(t, setup, conn)
	failed := jobs.Ruling{Outcome: jobs.Failed, Reason: "declined", Attempt: 1}
	var uids []string
	for n := range uint64(3) {
		held := receive(t, intake, source, 1)
		j := jobs.Decode(held[0], 0)
		uids = append(uids, j.UID)
		batch := fmt.Sprint("batch-", n)
		bury(t, conn, jobs.DeadLetter{Job: &j, Ruling: &failed, BatchID: batch})
		settle(t, l, batch, failed, held[0])
		if err := source.Ack(&held[0]); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the job has left the stream", func() bool { return state(t, admin).Streams[0].Messages == 0 })
		if n < 2 {
			if _, err := admin.Replay(t.Context(), n+1, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, id := range []string{uids[0], "invoice-1"} {
		got := report(t, admin, id)
		var all []string
		for _, s := range got.History {
			all = append(all, strings.TrimSpace(string(s.What)+" "+s.UID))
		}
		slices.Sort(all)
		want := []string{"dead_letter " + uids[2], "final", "published", "replayed " + uids[1], "replayed " + uids[2]}
		if diff := cmp.Diff(want, all); diff != "" || got.UID != uids[0] || got.ReplayOf != "" {
			t.Errorf("%s: %+v (-want +got):\n%s", id, got, diff)
		}
	}
	if got := report(t, admin, uids[2]); got.ReplayOf != uids[1] || got.DeadLetter != 3 {
		t.Errorf("the last replay: %+v", got)
	}
}
