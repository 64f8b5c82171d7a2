package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/faulttest"
	"rollcall/internal/history"
	"rollcall/internal/jobs"
	"rollcall/internal/operate"
)

// onDisk starts a server and returns its URL, and the folder that its files are in.
func onDisk(t *testing.T) (url, dir string) {
	t.Helper()
	dir = t.TempDir()
	return faulttest.StartServer(t, server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: dir}).ClientURL(), dir
}

// holds counts the files below dir that contain text.
func holds(t *testing.T, dir, text string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte(text)) {
			files = append(files, filepath.Base(filepath.Dir(filepath.Dir(path)))+"/"+entry.Name())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestErasedJobsLeaveNothingOnDisk: of a job that waits, one that failed among others, and one that
// is delayed, the broker's disk holds neither body nor id, and the others' record stays whole.
func TestErasedJobsLeaveNothingOnDisk(t *testing.T) {
	t.Parallel()
	url, dir := onDisk(t)
	billing := faulttest.StartRecorder(t, "billing")
	billing.Answer(faulttest.Each(func(j faulttest.Asked) string {
		if strings.HasPrefix(j.ID, "ann") {
			return "fail"
		}
		return "ok"
	}))
	env := []string{"NATS_URL=" + url}
	wants(t, worker(t, env, "setup", "--archive", "30d"), codeOK)
	for _, id := range []string{"bob-1", "ann-1", "bob-2"} {
		wants(t, worker(t, env, "publish", "jobs.mail", `{"secret":"payload-of-`+id+`"}`, "--id", id), codeOK)
	}
	replica := start(t, url, []*faulttest.Recorder{billing}, "ROLLCALL_BATCH_LINGER=300ms")
	replica.logged("ready")
	final(t, env, "bob-2")
	final(t, env, "ann-1")
	replica.stop()
	replica.wait()
	wants(t, worker(t, env, "publish", "jobs.mail", `{"secret":"payload-of-ann-2"}`, "--id", "ann-2"), codeOK)
	wants(t, worker(t, env, "publish", "jobs.mail", `{"secret":"payload-of-ann-3"}`, "--id", "ann-3", "--delay", "1h"), codeOK)
	mate := decode[operate.JobReport](t, worker(t, env, "job", "bob-1", "-o", "json"))
	uid := decode[operate.JobReport](t, worker(t, env, "job", "ann-1", "-o", "json")).UID

	nc := faulttest.Connect(t, url)
	ledger, err := nc.SubscribeSync("ledger.>") // where the server would republish a record of five tokens
	if err != nil || nc.Flush() != nil {
		t.Fatal(err)
	}
	wants(t, worker(t, env, "erase", "ann-1"), codeUsage, "--yes")
	for id, want := range map[string]operate.Erasure{
		"ann-1": {Letters: 1, Events: 1, Archived: 1}, "ann-2": {Jobs: 1, Events: 1}, "ann-3": {Jobs: 1, Events: 1},
	} {
		got := decode[operate.Erasure](t, worker(t, env, "erase", id, "--yes", "-o", "json"))
		want.Archived = got.Archived // an archive is as quick as it is
		if got != want {
			t.Errorf("erase %s: %+v, want %+v", id, got, want)
		}
		wants(t, worker(t, env, "erase", id, "--yes"), codeNotFound, id)
		wants(t, worker(t, env, "job", id), codeNotFound, id)
		for _, text := range []string{"payload-of-" + id, `"` + id + `"`} {
			if files := holds(t, dir, text); len(files) > 0 {
				t.Errorf("%s stands in %v", text, files)
			}
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if n, _, err := ledger.Pending(); err != nil || n > 0 {
		t.Errorf("%d records of the ledger are plain messages too, %v", n, err)
	}
	if after := decode[operate.JobReport](t, worker(t, env, "job", mate.UID, "-o", "json")); after.BatchID != mate.BatchID || after.ID != "bob-1" || after.Outcome != jobs.Succeeded {
		t.Errorf("the record of a mate was %+v, is %+v", mate, after)
	}
	events, err := faulttest.Events(t.Context(), streams(t, url))
	if err != nil {
		t.Fatal(err)
	}
	counted := 0
	for _, e := range events {
		counted += e.Data.Counts.Total
		for i := range e.Data.Jobs {
			if j := &e.Data.Jobs[i]; j.UID == uid && (!j.Erased || j.Outcome != jobs.Failed || j.ID != "" || j.Reason != "" || j.Services != nil) {
				t.Errorf("the erased entry: %+v", j)
			}
		}
	}
	miscounted := slices.ContainsFunc((&history.History{Events: events}).Violations(), func(v history.Violation) bool { return v.Rule == history.Miscounted })
	if counted != 5 || miscounted {
		t.Errorf("%d jobs are counted, want 5; miscounted: %t", counted, miscounted)
	}
}

// TestAnEndedJobStandsInTheFileOfItsNeighbours: an ack only marks a message as deleted, and nobody can
// overwrite it then. The server frees the bytes with the block, once no open job stands in it.
func TestAnEndedJobStandsInTheFileOfItsNeighbours(t *testing.T) {
	t.Parallel()
	url, dir := onDisk(t)
	billing := faulttest.StartRecorder(t, "billing")
	billing.Answer(faulttest.Each(func(j faulttest.Asked) string {
		if j.ID == "bob-1" {
			return "retry"
		}
		return "fail"
	}))
	env := []string{"NATS_URL=" + url}
	wants(t, worker(t, env, "setup"), codeOK)
	wants(t, worker(t, env, "publish", "jobs.mail", "{}", "--id", "bob-1"), codeOK)
	replica := start(t, url, []*faulttest.Recorder{billing}, "ROLLCALL_RETRY_MIN=1h", "ROLLCALL_RETRY_MAX=1h")
	replica.logged("ready")
	wants(t, worker(t, env, "publish", "jobs.mail", `{"secret":"payload-of-ann-1"}`, "--id", "ann-1", "--wait"), codeFailed)
	replica.stop()
	replica.wait()
	wants(t, worker(t, env, "erase", "ann-1", "--yes"), codeOK)
	files := holds(t, dir, "payload-of-ann-1")
	if len(files) == 0 || slices.ContainsFunc(files, func(file string) bool { return !strings.HasPrefix(file, "JOBS/") }) {
		t.Errorf("while a neighbour is open the body stands in %v, want the file of JOBS alone", files)
	}
	wants(t, worker(t, env, "cancel", "bob-1"), codeOK)
	if files := holds(t, dir, "payload-of-ann-1"); len(files) > 0 {
		t.Errorf("without open neighbours the body stands in %v", files)
	}
}

// TestAnEventThatReachedItsAgeStandsInTheFile: the server removes what is old and overwrites nothing, and
// what it has removed nobody can overwrite.
func TestAnEventThatReachedItsAgeStandsInTheFile(t *testing.T) {
	t.Parallel()
	url, dir := onDisk(t)
	env := []string{"NATS_URL=" + url}
	wants(t, worker(t, env, "setup"), codeOK)
	replica := start(t, url, []*faulttest.Recorder{faulttest.StartRecorder(t, "billing")}, "ROLLCALL_DONE_AGE=2s")
	replica.logged("ready")
	wants(t, worker(t, env, "publish", "jobs.mail", `{"secret":"payload-of-ann-1"}`, "--id", "ann-1", "--wait"), codeOK)
	if code := replica.stopped(); code != codeOK {
		t.Errorf("the replica ended with %d", code)
	}
	faulttest.Until(t, limit, "the event is gone", func() bool {
		return worker(t, env, "events", "--all", "--follow=false", "-o", "jsonl").stdout == ""
	})
	wants(t, worker(t, env, "erase", "ann-1", "--yes"), codeNotFound, "ann-1")
	if files := holds(t, dir, `"ann-1"`); len(files) == 0 || slices.ContainsFunc(files, func(file string) bool { return !strings.HasPrefix(file, "DONE/") }) {
		t.Errorf("the id stands in %v, want the file of DONE alone", files)
	}
	if files := holds(t, dir, "payload-of-ann-1"); len(files) > 0 {
		t.Errorf("the body stands in %v", files)
	}
}

// TestErasedMembersLeaveTheirSets: neither the event of a set that has ended nor the tally of an open
// one names an erased member, who counts all the same; the event that was replaced is overwritten.
func TestErasedMembersLeaveTheirSets(t *testing.T) {
	t.Parallel()
	url, dir := onDisk(t)
	billing := faulttest.StartRecorder(t, "billing")
	billing.Answer(faulttest.Each(func(j faulttest.Asked) string {
		if strings.HasPrefix(j.ID, "ann") || j.ID == "carl" {
			return "fail"
		}
		return "ok"
	}))
	env := []string{"NATS_URL=" + url}
	wants(t, worker(t, env, "setup"), codeOK)
	replica := start(t, url, []*faulttest.Recorder{billing})
	replica.logged("ready")
	member := func(id, set string) {
		wants(t, worker(t, env, "publish", "jobs.row", "{}", "--id", id, "--header", "Rollcall-Set:"+set, "--header", "Rollcall-Set-Size:3"), codeOK)
	}
	for _, id := range []string{"bob", "ann-1", "carl"} {
		member(id, "ended")
	}
	member("eve", "open")
	member("ann-2", "open")
	ended := decode[operate.SetReport](t, worker(t, env, "set", "wait", "ended", "--timeout", limit.String(), "-o", "json"))
	final(t, env, "eve")
	final(t, env, "ann-2")
	var before operate.SetReport
	faulttest.Until(t, limit, "both members are counted", func() bool {
		before = decode[operate.SetReport](t, worker(t, env, "set", "show", "open", "-o", "json"))
		return before.Done == 2
	})

	for _, id := range []string{"ann-1", "ann-2"} {
		if got := decode[operate.Erasure](t, worker(t, env, "erase", id, "--yes", "-o", "json")); got.Sets == 0 || got.Events != 1 || got.Letters != 1 {
			t.Errorf("erase %s: %+v, want a set, an event and a dead letter", id, got)
		}
		wants(t, worker(t, env, "erase", id, "--yes"), codeNotFound, id)
	}
	wantErased := func(was operate.SetReport) {
		t.Helper()
		now := decode[operate.SetReport](t, worker(t, env, "set", "show", was.Set, "-o", "json"))
		if now.Counts != was.Counts || now.Outcome != was.Outcome || !now.Truncated || len(now.Failed) != len(was.Failed) {
			t.Errorf("set %s was %+v, is %+v", was.Set, was, now)
		}
		for i, f := range was.Failed {
			want := f
			if strings.HasPrefix(f.ID, "ann") {
				want = jobs.SetFailure{UID: f.UID, Outcome: f.Outcome, Erased: true}
				if event := `"id":"` + f.ID + `","uid":"` + f.UID + `","outcome":"failed","reason":"` + f.Reason + `"}]`; was.Outcome != "" && holds(t, dir, event+`,"truncated"`) != nil {
					t.Errorf("the replaced event of set %s is still on the disk", was.Set)
				}
			}
			if i < len(now.Failed) && now.Failed[i] != want {
				t.Errorf("a member of set %s is %+v, want %+v", was.Set, now.Failed[i], want)
			}
		}
	}
	wantErased(ended)
	wantErased(before)

	member("bob-2", "open")
	end := decode[operate.SetReport](t, worker(t, env, "set", "wait", "open", "--timeout", limit.String(), "-o", "json"))
	if end.Done != 3 || end.Counts.Succeeded != 2 || len(end.Failed) != 1 || !end.Failed[0].Erased || end.Failed[0].ID != "" {
		t.Errorf("the set of which a member was erased ended as %+v", end)
	}
	done, err := streams(t, url).Stream(t.Context(), "DONE")
	if err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq <= done.CachedInfo().State.LastSeq; seq++ {
		m, err := done.GetMsg(t.Context(), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(m.Data, []byte("ann-")) {
			t.Errorf("%s: %s", m.Subject, m.Data)
		}
	}
}

// TestAWaitingMemberIsErasedWithoutANameInItsSet: the tally says of a member that was cancelled to be
// erased no more than its uid, at no time.
func TestAWaitingMemberIsErasedWithoutANameInItsSet(t *testing.T) {
	t.Parallel()
	url, dir := onDisk(t)
	env := []string{"NATS_URL=" + url}
	wants(t, worker(t, env, "setup"), codeOK)
	wants(t, worker(t, env, "publish", "jobs.row", "{}", "--id", "ann-1", "--header", "Rollcall-Set:open", "--header", "Rollcall-Set-Size:2"), codeOK)
	wants(t, worker(t, env, "erase", "ann-1", "--yes"), codeOK)
	report := decode[operate.SetReport](t, worker(t, env, "set", "show", "open", "-o", "json"))
	if report.Counts.Cancelled != 1 || len(report.Failed) != 1 || !report.Failed[0].Erased {
		t.Errorf("the set: %+v", report)
	}
	if files := holds(t, dir, `"ann-1"`); len(files) > 0 {
		t.Errorf("ann-1 stands in %v", files)
	}
}

// dropEvents removes the events of batches, as their age does.
func dropEvents(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	done, err := js.Stream(t.Context(), "DONE")
	if err != nil {
		t.Fatal(err)
	}
	if err := done.Purge(t.Context(), jetstream.WithPurgeSubject("done.batches.>")); err != nil {
		t.Fatal(err)
	}
}

// TestADeadLetterIsErasedByItsIDWhenItsEventIsGone: events live a day and dead letters a month.
func TestADeadLetterIsErasedByItsIDWhenItsEventIsGone(t *testing.T) {
	t.Parallel()
	url := broker(t)
	env := []string{"NATS_URL=" + url}
	billing := faulttest.StartRecorder(t, "billing")
	billing.Answer(faulttest.Each(func(faulttest.Asked) string { return "fail" }))
	replica := start(t, url, []*faulttest.Recorder{billing})
	replica.logged("ready")
	wants(t, worker(t, env, "publish", "jobs.mail", "{}", "--id", "ann-1", "--wait"), codeFailed)
	dropEvents(t, streams(t, url))
	if got := decode[operate.Erasure](t, worker(t, env, "erase", "ann-1", "--yes", "-o", "json")); got != (operate.Erasure{Letters: 1}) {
		t.Errorf("erased: %+v, want the dead letter", got)
	}
	wants(t, worker(t, env, "dead", "ls"), codeOK, "No dead letters")
}

// TestAnArchivedEventKeepsTheRecordOfOthers: DONE has dropped the event, and the archive keeps what it
// says of the job's mates.
func TestAnArchivedEventKeepsTheRecordOfOthers(t *testing.T) {
	t.Parallel()
	url, dir := onDisk(t)
	env := []string{"NATS_URL=" + url}
	wants(t, worker(t, env, "setup", "--archive", "30d"), codeOK)
	for _, id := range []string{"ann-1", "bob-1"} {
		wants(t, worker(t, env, "publish", "jobs.mail", "{}", "--id", id), codeOK)
	}
	replica := start(t, url, []*faulttest.Recorder{faulttest.StartRecorder(t, "billing")}, "ROLLCALL_BATCH_LINGER=300ms")
	final(t, env, "bob-1")
	final(t, env, "ann-1")
	if code := replica.stopped(); code != codeOK {
		t.Errorf("the replica ended with %d", code)
	}
	js := streams(t, url)
	archived := func() (text string) {
		history, err := js.Stream(t.Context(), "HISTORY")
		if err != nil {
			t.Fatal(err)
		}
		for seq := history.CachedInfo().State.FirstSeq; seq <= history.CachedInfo().State.LastSeq; seq++ {
			if m, err := history.GetMsg(t.Context(), seq); err == nil {
				text += string(m.Data) + "\n"
			}
		}
		return text
	}
	faulttest.Until(t, limit, "the archive has both jobs", func() bool { return strings.Contains(archived(), "ann-1") && strings.Contains(archived(), "bob-1") })
	dropEvents(t, js)
	if got := decode[operate.Erasure](t, worker(t, env, "erase", "ann-1", "--yes", "-o", "json")); got != (operate.Erasure{Archived: 1}) {
		t.Errorf("erased: %+v, want the event of the archive", got)
	}
	faulttest.Until(t, limit, "the archive has the rest", func() bool { return strings.Contains(archived(), `"erased":true`) })
	if text := archived(); strings.Contains(text, "ann-1") || strings.Count(text, `"id":"bob-1"`) != 1 {
		t.Errorf("the archive holds:\n%s", text)
	}
	if files := holds(t, dir+"/jetstream/$G/streams/HISTORY", `"ann-1"`); len(files) > 0 {
		t.Errorf("ann-1 stands in %v", files)
	}
}

// TestAnErasureThatWasCutShortIsFinished: the rest of an event was written down, and the command died
// before or after the old event was gone.
func TestAnErasureThatWasCutShortIsFinished(t *testing.T) {
	t.Parallel()
	for name, removed := range map[string]bool{"the old event stands": false, "the old event is gone": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := broker(t)
			env := []string{"NATS_URL=" + url}
			wants(t, worker(t, env, "setup"), codeOK)
			js := streams(t, url)
			const subject, record = "done.batches.default.failed.b1", "done.ledger.default.erase.batch.b1"
			old, err := js.Publish(t.Context(), subject, []byte("old"))
			if err != nil {
				t.Fatal(err)
			}
			rest := &nats.Msg{Subject: record, Header: nats.Header{"Rollcall-Event-Subject": {subject}, "Nats-TTL": {"3600"}}, Data: []byte("rest")}
			if _, err := js.PublishMsg(t.Context(), rest); err != nil {
				t.Fatal(err)
			}
			done, err := js.Stream(t.Context(), "DONE")
			if err != nil {
				t.Fatal(err)
			}
			if removed {
				if err := done.DeleteMsg(t.Context(), old.Sequence); err != nil {
					t.Fatal(err)
				}
			}
			wants(t, worker(t, env, "erase", "nobody", "--yes"), codeNotFound, "nobody")
			if m, err := done.GetLastMsgForSubject(t.Context(), subject); err != nil || string(m.Data) != "rest" || m.Header.Get("Nats-TTL") != "3600" {
				t.Errorf("the event: %+v, %v", m, err)
			}
			if m, err := done.GetLastMsgForSubject(t.Context(), record); err == nil {
				t.Errorf("the record is still there: %+v", m)
			}
		})
	}
}

// TestWhatWasMadeOfAnErasedJobIsErased: one replay has ended, another one waits. A replay has a message
// id of its own, and the CloudEvents id of the job that it was made of.
func TestWhatWasMadeOfAnErasedJobIsErased(t *testing.T) {
	t.Parallel()
	for name, named := range map[string][]string{
		"by its message id": {"--id", "ann-1"}, "by the uid of a CloudEvent": {"--header", "ce-id:ann-1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, _ := onDisk(t)
			env := []string{"NATS_URL=" + url}
			billing := faulttest.StartRecorder(t, "billing")
			billing.Answer(faulttest.Each(func(faulttest.Asked) string { return "fail" }))
			replica := start(t, url, []*faulttest.Recorder{billing})
			replica.logged("ready")
			publish := append([]string{"publish", "jobs.mail", `{"secret":"payload-of-ann"}`, "--wait", "-o", "json"}, named...)
			wants(t, worker(t, env, publish...), codeFailed)
			id := named[1]
			if named[0] == "--header" {
				id = decode[bus.Letter](t, worker(t, env, "dead", "ls", "-o", "jsonl")).UID
			}
			wants(t, worker(t, env, "dead", "replay", "--all"), codeOK)
			faulttest.Until(t, limit, "the replay has failed too", func() bool {
				return strings.Contains(worker(t, env, "dead", "ls", "-o", "jsonl").stdout, `"replay_of":`)
			})
			if code := replica.stopped(); code != codeOK {
				t.Errorf("the replica ended with %d", code)
			}
			wants(t, worker(t, env, "dead", "replay", "--all"), codeOK)
			if got := decode[operate.Erasure](t, worker(t, env, "erase", id, "--yes", "-o", "json")); got != (operate.Erasure{Jobs: 1, Events: 3}) {
				t.Errorf("erased: %+v, want the job that waits, and the events of all three", got)
			}
			for _, name := range []string{"JOBS", "DEAD"} {
				stream, err := streams(t, url).Stream(t.Context(), name)
				if err != nil {
					t.Fatal(err)
				}
				if n := stream.CachedInfo().State.Msgs; n != 0 {
					t.Errorf("%d messages are left in %s", n, name)
				}
			}
		})
	}
}
