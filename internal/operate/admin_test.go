package operate_test

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/operate"
)

// administer returns a pool on a server of its own.
func administer(t *testing.T) (*bus.Conn, *bus.Setup, *operate.Admin) {
	t.Helper()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	return conn, setup, adminOf(conn)
}

func state(t *testing.T, a *operate.Admin) jobs.PoolState {
	t.Helper()
	s, err := a.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStateOfAPool(t *testing.T) {
	t.Parallel()
	conn, setup, admin := administer(t)
	if got := state(t, admin); got.Waiting != 0 || got.InFlight != 0 || got.OldestAge() != 0 || got.Stuck != 0 || len(got.Streams) != 4 {
		t.Errorf("an empty pool: %+v", got)
	}
	publish(t, conn, "jobs.a", numbered(30)...)
	published := time.Now()
	// Neither a delayed job nor another pool's is one of those that wait.
	later := &nats.Msg{Subject: bus.LaterSubject("x"), Header: nats.Header{
		"Nats-Schedule": {"@at " + time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}, "Nats-Schedule-Target": {"due.a"},
	}}
	if _, err := jetStream(t, conn).PublishMsg(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	nightly, err := operate.NewSchedule("nightly", "jobs.a", "@daily", 0, time.Time{}, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.SetSchedule(t.Context(), nightly, nil, nil); err != nil {
		t.Fatal(err)
	}
	source, intake, _ := openSource(t, setup, conn)
	held := receive(t, intake, source, 10)
	// The server signals new messages to its consumers one after the other, behind the PubAck.
	var got jobs.PoolState
	eventually(t, "20 wait, 10 are in flight, none is stuck", func() bool {
		got = state(t, admin)
		return got.Waiting == 20 && got.InFlight == 10 && got.Stuck == 0
	})
	if got.Oldest.IsZero() || got.Oldest.After(published) || got.OldestAge() < 0 {
		t.Errorf("the oldest is of %v, want before %v", got.Oldest, published)
	}
	if got.Streams[0].Name != "JOBS" || got.Streams[0].Messages != 30 || got.Streams[0].Bytes == 0 || got.Streams[0].Replicas != 1 {
		t.Errorf("stream: %+v", got.Streams[0])
	}
	if got.Streams[3].Name != bus.StreamLater || got.Streams[3].Messages != 2 || got.Delayed != 1 {
		t.Errorf("%d delayed jobs, want 1 beside a schedule: %+v", got.Delayed, got.Streams[3])
	}
	if backlog, err := admin.Backlog(t.Context()); err != nil || backlog.Delayed != 1 || backlog.Stored != 30 {
		t.Errorf("backlog %+v, %v; want 1 delayed job and 30 stored", backlog, err)
	}
	for i := range held {
		if err := source.Ack(&held[i]); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "acked jobs are no longer in flight", func() bool { return state(t, admin).InFlight == 0 })
}

func TestStuckJobsAreSeen(t *testing.T) {
	t.Parallel()
	conn, _, admin := administer(t)
	js := jetStream(t, conn)
	consumer, err := js.Consumer(t.Context(), "JOBS", pool)
	if err != nil {
		t.Fatal(err)
	}
	config := consumer.CachedInfo().Config
	config.MaxDeliver = 1
	if consumer, err = js.UpdateConsumer(t.Context(), "JOBS", config); err != nil {
		t.Fatal(err)
	}
	publish(t, conn, "jobs.a", numbered(3)...)
	batch, err := consumer.Fetch(3, jetstream.FetchPriorityGroup("replicas"))
	if err != nil {
		t.Fatal(err)
	}
	for m := range batch.Messages() {
		if err := m.Nak(); err != nil {
			t.Fatal(err)
		}
	}
	// The server gives the jobs up when they would be due once more.
	eventually(t, "3 jobs are stuck", func() bool {
		again, err := consumer.Fetch(3, jetstream.FetchPriorityGroup("replicas"), jetstream.FetchMaxWait(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		for range again.Messages() { // else its goroutine outlives the test
			continue
		}
		return state(t, admin).Stuck == 3
	})
}

func TestStateNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	conn, _, admin := administer(t)
	if err := jetStream(t, conn).DeleteConsumer(t.Context(), "JOBS", pool); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.State(t.Context()); !errors.Is(err, bus.ErrMissing) {
		t.Errorf("without the consumer: %v", err)
	}
	if err := admin.Pause(t.Context(), time.Now().Add(time.Hour)); !errors.Is(err, bus.ErrMissing) {
		t.Errorf("pause without the consumer: %v", err)
	}
	if err := jetStream(t, conn).DeleteStream(t.Context(), "JOBS"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.State(t.Context()); !errors.Is(err, bus.ErrMissing) {
		t.Errorf("without the stream: %v", err)
	}
}

func TestPauseHoldsJobsBack(t *testing.T) {
	t.Parallel()
	conn, setup, admin := administer(t)
	until := time.Now().Add(time.Hour)
	if err := admin.Pause(t.Context(), until); err != nil {
		t.Fatal(err)
	}
	publish(t, conn, "jobs.a", numbered(5)...)
	eventually(t, "5 jobs wait", func() bool { return state(t, admin).Waiting == 5 })
	if got := state(t, admin).PausedUntil; got.Sub(until).Abs() > time.Minute {
		t.Errorf("paused until %v, want %v", got, until)
	}
	source, intake, _ := openSource(t, setup, conn)
	done := make(chan []jobs.Delivery, 1)
	go func() {
		all, _ := source.Receive(intake, jobs.Room{Jobs: 5, Bytes: 1 << 20})
		done <- all
	}()
	eventually(t, "the source asks for jobs", func() bool { return state(t, admin).Pulls > 0 })
	if got := state(t, admin); got.InFlight != 0 {
		t.Errorf("%d jobs were handed out during the pause", got.InFlight)
	}
	if err := admin.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case all := <-done:
		if len(all) == 0 {
			t.Error("no jobs after the pause")
		}
	case <-time.After(patience):
		t.Fatal("no jobs after the pause")
	}
	if err := admin.Resume(t.Context()); err != nil {
		t.Errorf("resuming twice: %v", err)
	}
	if !state(t, admin).PausedUntil.IsZero() {
		t.Error("still paused")
	}
}

// bury stores dead letters of jobs with these outcomes and reasons, and returns their jobs.
func bury(t *testing.T, conn *bus.Conn, letters ...jobs.DeadLetter) {
	t.Helper()
	for _, l := range letters { // one by one: what is sent together may be stored in any order
		if err := bus.NewDeadLetters(conn, pool, nopLog()).Publish(t.Context(), []jobs.DeadLetter{l}); err != nil {
			t.Fatal(err)
		}
	}
}

func letter(seq uint64, subject string, r jobs.Ruling) jobs.DeadLetter {
	d := jobs.Delivery{
		Subject: subject, Ref: jobs.Ref{Epoch: "epoch", Seq: seq}, Data: []byte("body-" + subject),
		Header: map[string][]string{"X-Tenant": {"ann", "bob"}, "Nats-Msg-Id": {"order-7"}},
	}
	j := jobs.Decode(d, 0)
	return jobs.DeadLetter{Job: &j, Ruling: &r, BatchID: "b1"}
}

// member makes the job of a letter a member of a set, in a spelling of the header's name that is
// not Rollcall's.
func member(set string, d jobs.DeadLetter) jobs.DeadLetter {
	d.Job.Header["rollcall-set"] = []string{set}
	return d
}

func letters(t *testing.T, a *operate.Admin, f operate.LetterFilter) (subjects []string) {
	t.Helper()
	err := a.Letters(t.Context(), f, func(l bus.Letter) error {
		subjects = append(subjects, l.Subject)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return subjects
}

func TestLettersAreFiltered(t *testing.T) {
	t.Parallel()
	conn, _, admin := administer(t)
	if got := letters(t, admin, operate.LetterFilter{}); got != nil {
		t.Errorf("an empty stream holds %v", got)
	}
	bury(t, conn,
		letter(1, "jobs.mail.a", jobs.Ruling{Outcome: jobs.Failed, Reason: "Card declined", Service: "billing", Attempt: 3}),
		letter(2, "jobs.sms", jobs.Ruling{Outcome: jobs.Expired, Reason: jobs.ReasonDeadline}),
		member("import-7", letter(3, "jobs.mail.b", jobs.Ruling{Outcome: jobs.Invalid, Reason: "not UTF-8"})))
	if err := bus.NewDeadLetters(conn, "other", nopLog()).Publish(t.Context(), []jobs.DeadLetter{letter(9, "jobs.x", jobs.Ruling{Outcome: jobs.Failed})}); err != nil {
		t.Fatal(err)
	}
	if got := state(t, admin).DeadLetters; got != 3 {
		t.Errorf("%d dead letters, want 3: another pool's do not count", got)
	}
	now := time.Now()
	for name, c := range map[string]struct {
		filter operate.LetterFilter
		want   []string
	}{
		"all":     {operate.LetterFilter{}, []string{"jobs.mail.a", "jobs.sms", "jobs.mail.b"}},
		"outcome": {operate.LetterFilter{Outcome: "expired"}, []string{"jobs.sms"}},
		"service": {operate.LetterFilter{Service: "billing"}, []string{"jobs.mail.a"}},
		"reason":  {operate.LetterFilter{Reason: "DECLINED"}, []string{"jobs.mail.a"}},
		"set":     {operate.LetterFilter{Set: "import-7"}, []string{"jobs.mail.b"}},
		"no set":  {operate.LetterFilter{Set: "import"}, nil},
		"subject": {operate.LetterFilter{Subject: "jobs.mail.>"}, []string{"jobs.mail.a", "jobs.mail.b"}},
		"both":    {operate.LetterFilter{Subject: "jobs.mail.*", Outcome: "invalid"}, []string{"jobs.mail.b"}},
		"young":   {operate.LetterFilter{After: now.Add(-time.Hour)}, []string{"jobs.mail.a", "jobs.sms", "jobs.mail.b"}},
		"old":     {operate.LetterFilter{Before: now.Add(-time.Hour)}, nil},
		"nothing": {operate.LetterFilter{Service: "nobody"}, nil},
	} {
		if diff := cmp.Diff(c.want, letters(t, admin, c.filter)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestReplayMakesTheJobAgainAndRemovesTheLetter(t *testing.T) {
	t.Parallel()
	conn, setup, admin := administer(t)
	bury(t, conn, letter(7, "jobs.mail", jobs.Ruling{Outcome: jobs.Failed, Reason: "declined", Service: "billing", Attempt: 10}))
	got, m, err := admin.Letter(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if got.UID != "epoch.7" || got.Outcome != "failed" || got.Attempts != 10 || got.Service != "billing" || got.Bytes != len("body-jobs.mail") || got.FailedAt.IsZero() {
		t.Errorf("letter: %+v", got)
	}
	if err := admin.Replayable(t.Context(), 1, false); err != nil {
		t.Errorf("replayable: %v", err)
	}
	id := replayID(t, conn, "epoch.7", 1)
	ref, err := admin.Replay(t.Context(), 1, false)
	if err != nil {
		t.Fatal(err)
	}
	source, intake, _ := openSource(t, setup, conn)
	d := receive(t, intake, source, 1)[0]
	delete(d.Header, "Nats-Expected-Stream") // our own guard against a letter that names another stream
	want := map[string][]string{"X-Tenant": {"ann", "bob"}, "Rollcall-Replay-Of": {"epoch.7"}, "Nats-Msg-Id": {id}}
	if diff := cmp.Diff(want, d.Header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if d.Subject != "jobs.mail" || string(d.Data) != string(m.Data) || d.Ref.UID() != ref.UID() {
		t.Errorf("replayed as %s %q on %s, reported as %s", d.Ref.UID(), d.Data, d.Subject, ref.UID())
	}
	if _, _, err := admin.Letter(t.Context(), 1); !errors.Is(err, operate.ErrNotFound) {
		t.Errorf("the letter is still there: %v", err)
	}
	for name, err := range map[string]error{
		"replay":     second(admin.Replay(t.Context(), 1, false)),
		"replayable": admin.Replayable(t.Context(), 1, false),
		"discard":    admin.Discard(t.Context(), 1),
	} {
		if !errors.Is(err, operate.ErrNotFound) {
			t.Errorf("%s of a letter that is gone: %v", name, err)
		}
	}
}

// replayID returns the message id of the job that a replay of a letter makes.
func replayID(t *testing.T, conn *bus.Conn, uid string, seq uint64) string {
	t.Helper()
	dead, err := jetStream(t, conn).Stream(t.Context(), bus.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	m, err := dead.GetMsg(t.Context(), seq)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s.replay.%d.%s", uid, seq, strconv.FormatInt(m.Time.UnixNano(), 36))
}

func second[T any](_ T, err error) error { return err }

func TestReplayThatBrokeOffMakesNoSecondJob(t *testing.T) {
	t.Parallel()
	conn, _, admin := administer(t)
	bury(t, conn, letter(7, "jobs.mail", jobs.Ruling{Outcome: jobs.Failed}))
	js := jetStream(t, conn)
	// The job was published, and the process died before it could remove the letter.
	job := &nats.Msg{Subject: "jobs.mail", Header: nats.Header{
		"Nats-Msg-Id": {replayID(t, conn, "epoch.7", 1)}, "Rollcall-Replay-Of": {"epoch.7"}, "X-Tenant": {"ann", "bob"},
	}, Data: []byte("body-jobs.mail")}
	if _, err := js.PublishMsg(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Replay(t.Context(), 1, false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "there is one job and no letter", func() bool {
		got := state(t, admin)
		return got.Waiting == 1 && got.DeadLetters == 0 && got.Streams[0].Messages == 1
	})
}

func TestWhatCannotBeReplayedStays(t *testing.T) {
	t.Parallel()
	conn, _, admin := administer(t)
	late := letter(1, "jobs.mail", jobs.Ruling{Outcome: jobs.Expired})
	late.Job.Header["rollcall-deadline"] = []string{time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)}
	bury(t, conn, late)
	js := jetStream(t, conn)
	for _, header := range []nats.Header{
		{"Rollcall-Subject": {"jobs.mail"}, "Rollcall-Truncated": {"true"}},
		{"Rollcall-Subject": {"done.batches.test.succeeded.forged"}}, // somebody else wrote to dead.>
	} {
		if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: bus.DeadSubject(pool, "jobs.mail"), Header: header}); err != nil {
			t.Fatal(err)
		}
	}
	for seq := uint64(1); seq <= 3; seq++ {
		if _, err := admin.Replay(t.Context(), seq, false); err == nil || seq < 3 && !errors.Is(err, operate.ErrNotReplayable) {
			t.Errorf("letter %d: %v", seq, err)
		}
	}
	if got := state(t, admin); got.Waiting != 0 || got.DeadLetters != 3 {
		t.Errorf("%d jobs, %d letters; want 0 and all 3", got.Waiting, got.DeadLetters)
	}
	done, err := js.Stream(t.Context(), bus.StreamDone)
	if err != nil || done.CachedInfo().State.Msgs != 0 {
		t.Errorf("an event was forged: %v", err)
	}
}

func TestDiscardRemovesOneLetter(t *testing.T) {
	t.Parallel()
	conn, _, admin := administer(t)
	bury(t, conn, letter(1, "jobs.a", jobs.Ruling{Outcome: jobs.Failed}), letter(2, "jobs.b", jobs.Ruling{Outcome: jobs.Failed}))
	if err := admin.Discard(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"jobs.b"}, letters(t, admin, operate.LetterFilter{})); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
}

// Hosted accounts have no common limit of storage, but one for each number of replicas.
func TestTheStorageOfAHostedAccountHasALimit(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	if err := s.GlobalAccount().UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{
		"R1": {MaxMemory: -1, MaxStore: 64 << 20, MaxStreams: -1, MaxConsumers: -1, MaxAckPending: -1, MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1},
	}); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, s)
	ensure(t, conn, streams())
	if _, err := jetStream(t, conn).Publish(t.Context(), "jobs.mail", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if got := state(t, adminOf(conn)); got.StoreLimit != 64<<20 || got.StoreUsed == 0 {
		t.Errorf("%d of %d bytes are used, want some of 64 MiB", got.StoreUsed, got.StoreLimit)
	}
}
