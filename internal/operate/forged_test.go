package operate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"rollcall/internal/bus"
	"rollcall/internal/bus/bustest"
	"rollcall/internal/jobs"
	"rollcall/internal/operate"
)

// publishJob publishes a job with an id, and other headers.
func publishJob(t *testing.T, conn *bus.Conn, id string, more nats.Header) {
	t.Helper()
	header := nats.Header{"ce-id": {id}}
	for name, values := range more {
		header[name] = values
	}
	if _, err := jetStream(t, conn).PublishMsg(t.Context(), &nats.Msg{Subject: "jobs.a", Header: header, Data: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
}

// TestAProducerCannotPointAtTheJobOfAnother: a job that is said to have the sequence of another, in the
// header that the server adds to what it reads, is cancelled and erased itself, or not at all.
func TestAProducerCannotPointAtTheJobOfAnother(t *testing.T) {
	t.Parallel()
	const emptyLine = "NATS/1.0\r\nce-id: evil\r\nRollcall-Set: mine\r\nNats-Sequence: %d\r\nNats-Subject: jobs.a\r\nNats-Time-Stamp: 2026-01-01T00:00:00Z\r\n\r\n\r\n"
	forge := map[string]struct {
		victim uint64 // its sequence
		evil   func(t *testing.T, s *server.Server, conn *bus.Conn)
	}{
		"header": {1, func(t *testing.T, _ *server.Server, conn *bus.Conn) {
			publishJob(t, conn, "evil", nats.Header{"Nats-Sequence": {"1"}, "Status": {"404"}, "Rollcall-Set": {"mine"}})
		}},
		"back, before an empty line": {1, func(t *testing.T, s *server.Server, _ *bus.Conn) {
			bustest.PublishRaw(t, s, "jobs.a", fmt.Sprintf(emptyLine, 1), "{}")
		}},
		"ahead, before an empty line": {2, func(t *testing.T, s *server.Server, _ *bus.Conn) {
			bustest.PublishRaw(t, s, "jobs.a", fmt.Sprintf(emptyLine, 2), "{}")
		}},
	}
	for name, act := range map[string]func(a *operate.Admin) error{
		"cancel":     func(a *operate.Admin) error { _, err := a.Cancel(patient(t), "me", "evil"); return err },
		"erase":      func(a *operate.Admin) error { _, err := a.Erase(patient(t), "me", "evil"); return err },
		"cancel set": func(a *operate.Admin) error { _, err := a.CancelSet(patient(t), "me", "mine"); return err },
	} {
		for how, forged := range forge {
			t.Run(name+", "+how, func(t *testing.T) {
				t.Parallel()
				s := startServer(t)
				conn := connect(t, s)
				ensure(t, conn, streams())
				if forged.victim == 2 {
					forged.evil(t, s, conn)
				}
				publishJob(t, conn, "victim", nil)
				if forged.victim == 1 {
					forged.evil(t, s, conn)
				}
				if err := act(adminOf(conn)); err != nil && how == "header" {
					t.Errorf("the job with the forged header: %v", err)
				}
				stream, err := jetStream(t, conn).Stream(t.Context(), "JOBS")
				if err != nil {
					t.Fatal(err)
				}
				if m, err := stream.GetMsg(t.Context(), forged.victim); err != nil || m.Header.Get("ce-id") != "victim" {
					t.Errorf("the victim is gone: %v", err)
				}
				if n := stream.CachedInfo().State.Msgs; how == "header" && n != 1 {
					t.Errorf("%d jobs are left, want the victim alone", n)
				}
			})
		}
	}
}

// TestAProducerCannotHideTheJobsOfOthers behind one whose headers look like the end of a read, that cannot be read, or
// that says it stands further on.
func TestAProducerCannotHideTheJobsOfOthers(t *testing.T) {
	t.Parallel()
	lines := strings.Repeat("A:b\n", 100) // two bytes shorter each than they read
	for name, header := range map[string]string{
		"404": "NATS/1.0\r\nStatus: 404\r\n\r\n", "204": "NATS/1.0 204\r\n\r\n", "503": "NATS/1.0 503\r\n\r\n",
		"204 before an empty line": "NATS/1.0\r\nStatus: 204\r\n\r\n\r\n", "404 before an empty line": "NATS/1.0\r\nStatus: 404\r\n\r\n\r\n", "503 before an empty line": "NATS/1.0\r\nStatus: 503\r\n\r\n\r\n",
		"an end before an empty line": "NATS/1.0\r\nStatus: 204\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 999\r\n\r\n\r\n",
		"a status among short lines":  "NATS/1.0\r\nStatus: 503\r\n" + lines + "A: b\r\n\r\n",
		"an end among short lines":    "NATS/1.0\r\nStatus: 204\r\nNats-Last-Sequence: 999\r\n" + lines + "\r\n\r\n",
		"a sequence further on":       "NATS/1.0\r\nNats-Sequence: 4\r\nNats-Subject: jobs.a\r\nNats-Time-Stamp: 2026-01-01T00:00:00Z\r\n\r\n\r\n",
		"a sequence beyond the end":   "NATS/1.0\r\nNats-Sequence: 999\r\nNats-Subject: jobs.a\r\nNats-Time-Stamp: 2026-01-01T00:00:00Z\r\n\r\n\r\n",
		"no colon":                    "NATS/1.0\r\nbroken\r\n\r\n", "no version": "HELLO\r\n\r\n", "half a status": "NATS/1.0 4\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			conn := connect(t, s)
			ensure(t, conn, streams())
			publishJob(t, conn, "first", nil)
			bustest.PublishRaw(t, s, "jobs.a", header, "")
			publishJob(t, conn, "victim", nil)
			publishJob(t, conn, "last", nil)
			began := time.Now()
			for _, id := range []string{"victim", "last"} {
				if report, err := adminOf(conn).Job(patient(t), id); err != nil || report.ID != id {
					t.Errorf("Job(%s) = %+v, %v", id, report, err)
				}
			}
			if took := time.Since(began); took > 4*time.Second {
				t.Errorf("the lookups took %v: a read waited for its end", took)
			}
		})
	}
}

// TestAScanGoesOnBehindWhatItHasRead, not behind where the last message of a read says it stands.
func TestAScanGoesOnBehindWhatItHasRead(t *testing.T) {
	t.Parallel()
	const oneRead = 1000
	s := startServer(t)
	conn := connect(t, s)
	ensure(t, conn, streams())
	js := jetStream(t, conn)
	for range oneRead - 1 {
		if _, err := js.PublishAsync("jobs.a", []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the jobs are stored", func() bool {
		stream, err := js.Stream(t.Context(), "JOBS")
		return err == nil && stream.CachedInfo().State.Msgs == oneRead-1
	})
	bustest.PublishRaw(t, s, "jobs.a", "NATS/1.0\r\nNats-Sequence: 1001\r\nNats-Subject: jobs.a\r\nNats-Time-Stamp: 2026-01-01T00:00:00Z\r\n\r\n\r\n", "{}")
	publishJob(t, conn, "victim", nil)
	publishJob(t, conn, "last", nil)
	if report, err := adminOf(conn).Job(patient(t), "victim"); err != nil || report.ID != "victim" {
		t.Errorf("Job() = %+v, %v", report, err)
	}
}

// TestALetterWithAStatusHidesNoOthers: clients take a message with a status and no body for the server's
// word, and letters are read without their bodies.
func TestALetterWithAStatusHidesNoOthers(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	letters := bus.NewDeadLetters(conn, pool, nopLog())
	for i, status := range []string{"409", "503", "404", "100", "408", ""} {
		j := jobs.Decode(jobs.Delivery{
			Subject: "jobs.a", Header: map[string][]string{"Status": {status}, "Not A Name": {"x"}}, Data: []byte("{}"),
			Ref: jobs.Ref{Epoch: "e", Seq: uint64(i + 1)},
		}, 0)
		if err := letters.Publish(patient(t), []jobs.DeadLetter{{Job: &j, BatchID: "b", Ruling: &jobs.Ruling{Outcome: jobs.Invalid, Reason: "x", Attempt: 1}}}); err != nil {
			t.Fatal(err)
		}
	}
	found := 0
	err := adminOf(conn).Letters(patient(t), operate.LetterFilter{}, func(bus.Letter) error { found++; return nil })
	if found != 6 || err != nil {
		t.Errorf("%d of 6 letters, %v", found, err)
	}
}

// TestAPoolActsOnItsOwnJobs only, whatever ROLLCALL_SUBJECTS are where a command is given: those that its consumer takes.
// A job of it may say that it stands where one of another pool does, in the same set.
func TestAPoolActsOnItsOwnJobs(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	conn := connect(t, s)
	ensure(t, conn, streams())
	consumer, err := jetStream(t, conn).Consumer(t.Context(), "JOBS", pool)
	if err != nil {
		t.Fatal(err)
	}
	takes := consumer.CachedInfo().Config
	takes.FilterSubject = "jobs.a"
	if _, err := jetStream(t, conn).UpdateConsumer(t.Context(), "JOBS", takes); err != nil {
		t.Fatal(err)
	}
	const header = "NATS/1.0\r\nce-id: evil\r\nRollcall-Set: s\r\nNats-Sequence: 2\r\nNats-Subject: jobs.a\r\nNats-Time-Stamp: 2026-01-01T00:00:00Z\r\n\r\n\r\n"
	bustest.PublishRaw(t, s, "jobs.a", header, "{}")
	other := &nats.Msg{Subject: "jobs.b", Header: nats.Header{"ce-id": {"victim"}, "Rollcall-Set": {"s"}}, Data: []byte("{}")}
	if _, err := jetStream(t, conn).PublishMsg(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	publishJob(t, conn, "last", nil)
	delayJob(t, conn, "delayed", nats.Header{"Rollcall-Set": {"s"}, "Nats-Schedule-Target": {"due.b"}})
	admin := adminOf(conn)
	if _, err := admin.CancelSet(patient(t), "me", "s"); err != nil {
		t.Log(err)
	}
	for _, id := range []string{"victim", "delayed"} {
		if _, err := admin.Erase(patient(t), "me", id); !errors.Is(err, operate.ErrNotFound) {
			t.Errorf("Erase(%s): %v, want that there is no such job", id, err)
		}
		if report, err := admin.Job(patient(t), id); !errors.Is(err, operate.ErrNotFound) {
			t.Errorf("Job(%s): %+v, %v, want that there is no such job", id, report, err)
		}
	}
	stream, err := jetStream(t, conn).Stream(t.Context(), "JOBS")
	if err != nil {
		t.Fatal(err)
	}
	victim := jobs.Ref{Epoch: jobs.Epoch(stream.CachedInfo().Created), Seq: 2}.UID()
	for _, id := range []string{"victim", victim, "delayed"} {
		if _, err := admin.Cancel(patient(t), "me", id); !errors.Is(err, operate.ErrNotFound) {
			t.Errorf("Cancel(%s): %v, want that there is no such job", id, err)
		}
	}
	if m, err := stream.GetMsg(t.Context(), 2); err != nil || m.Subject != "jobs.b" {
		t.Errorf("the job of the other pool: %+v, %v", m, err)
	}
	if n := stateOf(t, conn, bus.StreamLater).Msgs; n != 1 {
		t.Error("the delayed job of the other pool is gone")
	}
}

// TestAPoolThatDoesNotExistActsOnNothing: its name is a mistake.
func TestAPoolThatDoesNotExistActsOnNothing(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	publishJob(t, conn, "victim", nil)
	delayJob(t, conn, "delayed", nats.Header{"Rollcall-Set": {"s"}})
	ghost := operate.NewAdmin(conn, streams(), "ghost")
	for name, act := range map[string]func(ctx context.Context) error{
		"Cancel":           func(ctx context.Context) error { _, err := ghost.Cancel(ctx, "me", "victim"); return err },
		"Cancel a delayed": func(ctx context.Context) error { _, err := ghost.Cancel(ctx, "me", "delayed"); return err },
		"CancelSet":        func(ctx context.Context) error { _, err := ghost.CancelSet(ctx, "me", "s"); return err },
		"CloseSet":         func(ctx context.Context) error { _, err := ghost.CloseSet(ctx, "s", 1); return err },
		"Job":              func(ctx context.Context) error { _, err := ghost.Job(ctx, "delayed"); return err },
	} {
		if err := act(patient(t)); !errors.Is(err, bus.ErrMissing) || !strings.Contains(err.Error(), "is ROLLCALL_POOL right?") {
			t.Errorf("%s: %v, want that there is no such pool", name, err)
		}
	}
	if _, err := ghost.Erase(patient(t), "me", "delayed"); !errors.Is(err, operate.ErrNotFound) {
		t.Errorf("Erase: %v, want that there is no such job", err)
	}
	if jobs, later := stateOf(t, conn, "JOBS").Msgs, stateOf(t, conn, bus.StreamLater).Msgs; jobs != 1 || later != 1 {
		t.Errorf("%d jobs and %d delayed ones are left, want one of each", jobs, later)
	}
}

// TestAScheduleIsNoJob: it is neither found, cancelled nor erased as one, whatever set its jobs are to be members of.
func TestAScheduleIsNoJob(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	m := &nats.Msg{Subject: bus.ScheduleSubject("nightly"), Header: nats.Header{
		"ce-id": {"rep"}, "Rollcall-Set": {"s"}, "Nats-Schedule": {"@yearly"}, "Nats-Schedule-Target": {"due.a"},
	}, Data: []byte("{}")}
	if _, err := jetStream(t, conn).PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	delayJob(t, conn, "delayed", nats.Header{"Rollcall-Set": {"s"}})
	admin := adminOf(conn)
	if done, err := admin.CancelSet(patient(t), "me", "s"); err != nil || done.Cancelled != 1 {
		t.Errorf("CancelSet() = %+v, %v; want the delayed job alone cancelled", done, err)
	}
	for _, id := range []string{"rep", "cron.nightly"} {
		if report, err := admin.Job(patient(t), id); !errors.Is(err, operate.ErrNotFound) {
			t.Errorf("Job(%s) = %+v, %v", id, report, err)
		}
		if _, err := admin.Cancel(patient(t), "me", id); !errors.Is(err, operate.ErrNotFound) {
			t.Errorf("Cancel(%s): %v", id, err)
		}
		if _, err := admin.Erase(patient(t), "me", id); !errors.Is(err, operate.ErrNotFound) {
			t.Errorf("Erase(%s): %v", id, err)
		}
	}
	for _, name := range []string{"*", ">", "a b", ""} {
		if err := admin.RemoveSchedule(patient(t), name); !errors.Is(err, operate.ErrNotFound) {
			t.Errorf("RemoveSchedule(%q): %v", name, err)
		}
		if _, _, err := admin.RunSchedule(patient(t), name); !errors.Is(err, operate.ErrNotFound) {
			t.Errorf("RunSchedule(%q): %v", name, err)
		}
	}
	if list, err := admin.Schedules(patient(t)); err != nil || len(list) != 1 {
		t.Errorf("%d schedules are left, %v; want the one", len(list), err)
	}
}

// TestAUIDIsOfNoOtherJob that has it for a name.
func TestAUIDIsOfNoOtherJob(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	publishJob(t, conn, "victim", nil)
	stream, err := jetStream(t, conn).Stream(t.Context(), "JOBS")
	if err != nil {
		t.Fatal(err)
	}
	uid := jobs.Ref{Epoch: jobs.Epoch(stream.CachedInfo().Created), Seq: 1}.UID()
	delayed := nats.Header{"ce-id": {uid}, "Nats-Schedule": {"@at 2099-01-01T00:00:00Z"}, "Nats-Schedule-Target": {"due.a"}}
	if _, err := jetStream(t, conn).PublishMsg(t.Context(), &nats.Msg{Subject: "later.other", Header: delayed, Data: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	if report, err := adminOf(conn).Job(patient(t), uid); err != nil || report.ID != "victim" {
		t.Errorf("Job(%s) = %+v, %v; want the job of that uid", uid, report, err)
	}
}

// delayJob publishes a job that is due in a far future.
func delayJob(t *testing.T, conn *bus.Conn, id string, more nats.Header) (seq uint64) {
	t.Helper()
	m := &nats.Msg{Subject: bus.LaterSubject(id), Header: nats.Header{
		"ce-id": {id}, "Nats-Schedule": {"@at 2099-01-01T00:00:00Z"}, "Nats-Schedule-Target": {"due.a"},
	}, Data: []byte("{}")}
	for name, values := range more {
		m.Header[name] = values
	}
	ack, err := jetStream(t, conn).PublishMsg(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

// cancelledUIDs returns the uids of the jobs that the events of the pool name.
func cancelledUIDs(t *testing.T, conn *bus.Conn) (uids []string) {
	t.Helper()
	err := operate.NewEvents(conn).Backwards(patient(t), pool, 0, func(e operate.Event) error {
		var event struct {
			Data struct {
				Jobs []struct {
					UID string `json:"uid"`
				} `json:"jobs"`
			} `json:"data"`
		}
		if err := json.Unmarshal(e.Data, &event); err != nil {
			return err
		}
		for _, j := range event.Data.Jobs {
			uids = append(uids, j.UID)
		}
		return nil
	}, func() bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(uids)
	return uids
}

// TestADelayedJobIsCancelledUnderItsOwnNumber, whatever it says of another.
func TestADelayedJobIsCancelledUnderItsOwnNumber(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	later, err := jetStream(t, conn).Stream(t.Context(), bus.StreamLater)
	if err != nil {
		t.Fatal(err)
	}
	uid := func(seq uint64) string {
		return bus.LaterSubject(jobs.Ref{Epoch: jobs.Epoch(later.CachedInfo().Created), Seq: seq}.UID())
	}
	victim, due := delayJob(t, conn, "victim", nil), delayJob(t, conn, "due", nil)
	if err := later.DeleteMsg(t.Context(), due); err != nil { // as the server does when it is due
		t.Fatal(err)
	}
	evil := delayJob(t, conn, "evil", nats.Header{"Rollcall-Held": {strconv.FormatUint(victim, 10)}})
	ahead := delayJob(t, conn, "ahead", nats.Header{"rollcall-held": {"999"}})
	behind := delayJob(t, conn, "behind", nats.Header{"Rollcall-Held": {strconv.FormatUint(due, 10)}})
	for _, id := range []string{"evil", "victim", "ahead", "behind"} {
		if _, err := adminOf(conn).Cancel(patient(t), "me", id); err != nil {
			t.Errorf("Cancel(%s): %v", id, err)
		}
	}
	if got, want := cancelledUIDs(t, conn), []string{uid(victim), uid(evil), uid(ahead), uid(behind)}; !slices.Equal(got, want) {
		t.Errorf("the events name %v, want %v", got, want)
	}
	if report, err := adminOf(conn).Job(patient(t), uid(due)); !errors.Is(err, operate.ErrNotFound) {
		t.Errorf("the job that has become due: %+v, %v", report, err)
	}
}

// TestNoHeaderKeepsADelayedJobFromBeingCancelled, nor the other members of its set.
func TestNoHeaderKeepsADelayedJobFromBeingCancelled(t *testing.T) {
	t.Parallel()
	const target = "Nats-Schedule: @at 2099-01-01T00:00:00Z\r\nNats-Schedule-Target: due.a\r\n"
	for name, header := range map[string]string{
		"the server expects another message":         "Nats-Expected-Last-Sequence: 0\r\n" + target,
		"the server expects another stream":          "Nats-Expected-Stream: LATER\r\nNats-Expected-Last-Msg-Id: \r\n" + target,
		"a name that clients refuse":                 "My Key: x\r\n" + target,
		"behind what clients take for a line's end":  "X: a\nNats-Schedule-Target: nowhere\r\n" + target,
		"behind what clients take for the end":       "X: a\n\nY: b\r\n" + target,
		"a target that is none":                      "X: a\nNats-Schedule-Target: a b\r\n" + target,
		"a header as large as the server stores one": "X: " + strings.Repeat("x", 64<<10-160) + "\r\n" + target,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			conn := connect(t, s)
			ensure(t, conn, streams())
			bustest.PublishRaw(t, s, "later.evil", "NATS/1.0\r\nce-id: evil\r\nRollcall-Set: s\r\n"+header+"\r\n", "{}")
			for _, id := range []string{"m1", "m2"} {
				delayJob(t, conn, id, nats.Header{"Rollcall-Set": {"s"}})
			}
			if done, err := adminOf(conn).CancelSet(patient(t), "me", "s"); err != nil || done.Cancelled != 3 {
				t.Errorf("CancelSet() = %+v, %v; want 3 cancelled", done, err)
			}
			if left := stateOf(t, conn, bus.StreamLater).Msgs; left != 0 {
				t.Errorf("%d messages are left in LATER", left)
			}
		})
	}
}

// TestEveryMemberIsCancelled, also those that say they stand where another does.
func TestEveryMemberIsCancelled(t *testing.T) {
	t.Parallel()
	for _, stream := range []string{"JOBS", bus.StreamLater} {
		t.Run(stream, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			conn := connect(t, s)
			ensure(t, conn, streams())
			const members = 5
			for i := range members {
				if stream == "JOBS" {
					publishJob(t, conn, fmt.Sprint("m", i), nats.Header{"Rollcall-Set": {"s"}})
				} else {
					delayJob(t, conn, fmt.Sprint("m", i), nats.Header{"Rollcall-Set": {"s"}})
				}
			}
			for i := range members {
				subject, schedule := "jobs.a", ""
				if stream != "JOBS" {
					subject = bus.LaterSubject(fmt.Sprint("evil", i))
					schedule = "X: a\n\nY: b\r\nNats-Schedule: @at 2099-01-01T00:00:00Z\r\nNats-Schedule-Target: due.a\r\n" // behind an end that clients see
				}
				header := "NATS/1.0\r\nRollcall-Set: s\r\nNats-Sequence: %d\r\nNats-Subject: jobs.a\r\nNats-Time-Stamp: 2026-01-01T00:00:00Z\r\n" + schedule + "\r\n\r\n"
				bustest.PublishRaw(t, s, subject, fmt.Sprintf(header, i+1), "")
			}
			if done, err := adminOf(conn).CancelSet(patient(t), "me", "s"); err != nil || done.Cancelled != 2*members || done.Ended != 0 {
				t.Errorf("CancelSet() = %+v, %v; want all cancelled once", done, err)
			}
			if left := stateOf(t, conn, stream).Msgs; left != 0 {
				t.Errorf("%d members are left", left)
			}
		})
	}
}

// TestAScheduleIsRunWhereTheServerAims, and nowhere but in the job stream: clients read another target from the same headers.
func TestAScheduleIsRunWhereTheServerAims(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"$JS.API.STREAM.PURGE.JOBS", "batches." + pool + ".succeeded.x", "jobs.other"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			conn := connect(t, s)
			ensure(t, conn, streams())
			for i := range 3 {
				publishJob(t, conn, fmt.Sprint("job", i), nil)
			}
			heard, err := conn.NATS().SubscribeSync("batches.>")
			if err != nil {
				t.Fatal(err)
			}
			bustest.PublishRaw(t, s, bus.ScheduleSubject("nightly"), "NATS/1.0\r\nX: a\nNats-Schedule-Target: "+target+"\r\nNats-Schedule: @every 24h\r\nNats-Schedule-Target: due.a\r\n\r\n", "{}")
			if _, _, err := adminOf(conn).RunSchedule(patient(t), "nightly"); err != nil {
				t.Fatal(err)
			}
			stream, err := jetStream(t, conn).Stream(t.Context(), "JOBS")
			if err != nil {
				t.Fatal(err)
			}
			if m, err := stream.GetMsg(t.Context(), 4); err != nil || m.Subject != "jobs.a" {
				t.Errorf("the job of the schedule: %+v, %v", m, err)
			}
			if n, _, err := heard.Pending(); err != nil || n != 0 {
				t.Errorf("%d events are published, %v", n, err)
			}
		})
	}
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	elsewhere := &nats.Msg{Subject: bus.ScheduleSubject("x"), Header: nats.Header{"Nats-Schedule": {"@every 24h"}, "Nats-Schedule-Target": {"later.x"}}, Data: []byte("{}")}
	if _, err := jetStream(t, conn).PublishMsg(t.Context(), elsewhere); err != nil {
		t.Fatal(err)
	}
	if _, _, err := adminOf(conn).RunSchedule(patient(t), "x"); err == nil || !strings.Contains(err.Error(), `aims at "later.x"`) {
		t.Errorf("a schedule that aims elsewhere is run: %v", err)
	}
}

// failed makes a job that ended in a dead letter, the first one, and returns its uid.
func failed(t *testing.T, conn *bus.Conn, setup *bus.Setup) (uid string, source *bus.Source, intake context.Context) {
	t.Helper()
	publishJob(t, conn, "victim", nil)
	source, intake, _ = openSource(t, setup, conn)
	d := receive(t, intake, source, 1)[0]
	ruling := jobs.Ruling{Outcome: jobs.Failed, Reason: "declined", Attempt: 1}
	j := jobs.Decode(d, 0)
	bury(t, conn, jobs.DeadLetter{Job: &j, Ruling: &ruling, BatchID: "batch-1"})
	settle(t, runLedger(t, conn), "batch-1", ruling, d)
	if err := source.Ack(&d); err != nil {
		t.Fatal(err)
	}
	return d.Ref.UID(), source, intake
}

// TestWhatOtherJobsSayOfAJobThatFailed changes nothing of what is known of it.
func TestWhatOtherJobsSayOfAJobThatFailed(t *testing.T) {
	t.Parallel()
	for name, header := range map[string]func(uid string) nats.Header{
		"its uid is their id":          func(uid string) nats.Header { return nats.Header{"ce-id": {uid}} },
		"they were made of its letter": func(uid string) nats.Header { return nats.Header{"ce-id": {"victim"}, "Rollcall-Replay-Of": {uid}} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, setup, admin := administer(t)
			uid, source, intake := failed(t, conn, setup)
			publishJob(t, conn, "", header(uid))
			other := receive(t, intake, source, 1)[0]
			settle(t, runLedger(t, conn), "batch-2", jobs.Ruling{Outcome: jobs.Succeeded, Attempt: 1}, other)
			if err := source.Ack(&other); err != nil {
				t.Fatal(err)
			}
			eventually(t, "both are acked", func() bool { return stateOf(t, conn, "JOBS").Msgs == 0 })
			got := report(t, admin, uid)
			if got.UID != uid || got.Outcome != jobs.Failed || got.DeadLetter != 1 {
				t.Errorf("Job(%s) = %+v", uid, got)
			}
			for _, step := range got.History {
				if step.What == operate.StepReplayed {
					t.Errorf("it was replayed: %+v", step)
				}
			}
		})
	}
}

// TestALetterOutlivesAForgedReplay: a job with the message id of the replay has the server take it for a repetition.
func TestALetterOutlivesAForgedReplay(t *testing.T) {
	t.Parallel()
	conn, setup, admin := administer(t)
	uid, _, _ := failed(t, conn, setup)
	id := replayID(t, conn, uid, 1)
	publishJob(t, conn, "evil", nats.Header{"Nats-Msg-Id": {id}, "Rollcall-Replay-Of": {uid}})
	if ref, err := admin.Replay(patient(t), 1, false); err == nil || !strings.Contains(err.Error(), "has the message id of the replay") {
		t.Errorf("Replay() = %v, %v", ref, err)
	}
	if _, _, err := admin.Letter(patient(t), 1); err != nil {
		t.Errorf("the letter: %v", err)
	}
}
