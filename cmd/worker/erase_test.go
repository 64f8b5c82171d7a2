package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"rollcall/internal/faulttest"
	"rollcall/internal/history"
	"rollcall/internal/jobs"
	"rollcall/internal/operate"
)

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
	dir := t.TempDir()
	url := faulttest.StartServer(t, server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: dir}).ClientURL()
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
			const subject, record = "done.batches.default.failed.b1", "done.ledger.default.erase.b1"
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
