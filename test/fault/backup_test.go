//go:build fault && linux

package fault_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/faulttest"
	"rollcall/internal/history"
	"rollcall/internal/jobs"
)

// The procedures of docs/operations.md, "Back up", as they stand there.

// leave stops a worker or a broker as an operator would.
func leave(t *testing.T, p *faulttest.Process) {
	t.Helper()
	p.Signal(syscall.SIGTERM)
	p.WaitExit(patience)
}

// lookUp asks for a stream until the broker knows it: it may be being restarted.
func lookUp(t *testing.T, s *faulttest.Scenario, stream string, within time.Duration) (info *jetstream.StreamInfo) {
	t.Helper()
	faulttest.Until(t, within, stream+" can be looked up", func() bool {
		found, err := s.JS.Stream(t.Context(), stream)
		if err == nil {
			info = found.CachedInfo()
		}
		return err == nil
	})
	return info
}

// created is when the broker says that a stream was made: the epoch of its jobs.
func created(t *testing.T, s *faulttest.Scenario, stream string) time.Time {
	t.Helper()
	return lookUp(t, s, stream, patience).Created
}

// TestRestoreFromACopyOfTheStore: the whole store directory of a stopped broker is put back. Jobs
// keep their uids; what waited then is done again, what came later is gone, and no uid is given
// out a second time if the sequence is moved on.
func TestRestoreFromACopyOfTheStore(t *testing.T) {
	t.Parallel()
	store, backup := filepath.Join(t.TempDir(), "store"), filepath.Join(t.TempDir(), "backup")
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{Store: store})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
	s.Setup()
	epoch := created(t, s, "JOBS")
	w := s.Start()
	s.Load.Publish(100, patience)
	faulttest.WaitRest(t, s.JS, "JOBS", "default", patience)
	leave(t, w.Process)
	s.Load.Publish(50, patience)

	leave(t, broker.Process)
	if err := os.CopyFS(backup, os.DirFS(store)); err != nil {
		t.Fatal(err)
	}
	broker.Restart()
	w = s.Start()
	s.Load.Publish(30, patience)
	faulttest.WaitRest(t, s.JS, "JOBS", "default", patience)
	saved, lost := s.Load.Accepted()[:150], s.Load.Accepted()[150:]
	leave(t, w.Process)

	// The disaster, and the copy is put back.
	broker.Kill()
	if err := errors.Join(os.RemoveAll(store), os.Rename(backup, store)); err != nil {
		t.Fatal(err)
	}
	broker.Restart()
	if now := created(t, s, "JOBS"); !now.Equal(epoch) {
		t.Errorf("JOBS was created at %v, want the %v from before: jobs have other uids", now, epoch)
	}
	s.Start()
	faulttest.WaitRest(t, s.JS, "JOBS", "default", patience)
	skipUsedNumbers(t, s)
	s.Load = faulttest.NewLoad(t, s.JS, "JOBS", "jobs.after")
	s.Load.Publish(50, patience)
	faulttest.WaitRest(t, s.JS, "JOBS", "default", patience)

	after := s.Load.Accepted()
	for _, job := range after {
		if slices.ContainsFunc(lost, func(l history.Job) bool { return l.UID == job.UID }) {
			t.Errorf("the new job %s has the uid of one that was lost, %s", job.ID, job.UID)
		}
	}
	h := history.History{AtRest: true}
	s.Collect(&h)
	h.Accepted = append(slices.Clone(saved), after...)
	gone := map[string]bool{}
	for _, job := range lost {
		gone[job.UID] = true
	}
	h.Calls = slices.DeleteFunc(h.Calls, func(c history.Call) bool { return gone[c.UID] })
	s.Report(&h)
	if again := repeated(h.Calls); again != 50 {
		t.Errorf("%d jobs were called for twice, want the 50 that waited when the copy was made", again)
	}
}

// skipUsedNumbers moves the sequence of the empty job stream on, as
// `nats stream purge JOBS --seq=N` does: the jobs since the backup had those numbers.
func skipUsedNumbers(t *testing.T, s *faulttest.Scenario) {
	t.Helper()
	const more = 1_000_000
	stream, err := s.JS.Stream(t.Context(), "JOBS")
	if err != nil {
		t.Fatal(err)
	}
	next := stream.CachedInfo().State.LastSeq + more
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(next)); err != nil {
		t.Fatal(err)
	}
	if stream, err = s.JS.Stream(t.Context(), "JOBS"); err != nil || stream.CachedInfo().State.LastSeq != next-1 {
		t.Fatalf("the last sequence is %d after the purge, want %d (%v)", stream.CachedInfo().State.LastSeq, next-1, err)
	}
}

// TestRestoreOfTheJobStreamIsNewWork: `nats stream backup` and `restore` make a stream with a new
// creation time. What had ended since the backup is done again under another source: the ledger
// cannot know it.
func TestRestoreOfTheJobStreamIsNewWork(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
	s.Setup()
	s.Load.Publish(50, patience)
	epoch := created(t, s, "JOBS")
	backup := snapshot(t, s, "JOBS")
	w := s.Start()
	faulttest.WaitRest(t, s.JS, "JOBS", "default", patience)
	leave(t, w.Process)
	if err := s.JS.DeleteStream(t.Context(), "JOBS"); err != nil {
		t.Fatal(err)
	}
	backup.restore(t, s)
	now := created(t, s, "JOBS")
	if now.Equal(epoch) {
		t.Fatal("the restored stream kept its creation time: docs/operations.md says otherwise")
	}
	s.Start()
	faulttest.WaitRest(t, s.JS, "JOBS", "default", patience)
	sources := map[string]int{}
	for _, c := range s.Calls() {
		sources[c.Source]++
	}
	before, after := "/rollcall/JOBS/"+jobs.Epoch(epoch), "/rollcall/JOBS/"+jobs.Epoch(now)
	if sources[before] != 50 || sources[after] != 50 {
		t.Errorf("calls by source %v, want 50 under %s and 50 under %s", sources, before, after)
	}
}

// TestRestoreOfTheDeadLetters: they do not depend on the creation time of their stream.
func TestRestoreOfTheDeadLetters(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
	s.Services[0].Answer(mixed())
	s.Setup()
	w := s.Start()
	s.Load.Publish(100, patience)
	faulttest.WaitRest(t, s.JS, "JOBS", "default", patience)
	leave(t, w.Process)
	backup := snapshot(t, s, "DEAD")
	if err := s.JS.DeleteStream(t.Context(), "DEAD"); err != nil {
		t.Fatal(err)
	}
	backup.restore(t, s)
	s.Start()
	s.Load.Publish(100, patience)
	h := s.Judge(patience, history.History{Calm: true})
	if len(h.DeadLetters) != 20 {
		t.Errorf("%d dead letters, want ten from before and ten from after", len(h.DeadLetters))
	}
}

// backup is what `nats stream backup` writes.
type backup struct {
	stream string
	about  struct {
		Config json.RawMessage `json:"config"`
		State  json.RawMessage `json:"state"`
	}
	chunks [][]byte
}

// snapshot does what `nats stream backup` does.
func snapshot(t *testing.T, s *faulttest.Scenario, stream string) backup {
	t.Helper()
	inbox, err := s.NC.SubscribeSync(nats.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	b := backup{stream: stream}
	about := ask(t, s, "$JS.API.STREAM.SNAPSHOT."+stream, []byte(`{"deliver_subject":"`+inbox.Subject+`"}`))
	if err := json.Unmarshal(about, &b.about); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := inbox.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Data) == 0 {
			return b
		}
		b.chunks = append(b.chunks, m.Data)
		if m.Reply != "" { // the server wants to know that it may go on
			if err := m.Respond(nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// restore does what `nats stream restore` does.
func (b backup) restore(t *testing.T, s *faulttest.Scenario) {
	t.Helper()
	about, err := json.Marshal(b.about)
	if err != nil {
		t.Fatal(err)
	}
	var to struct {
		Subject string `json:"deliver_subject"`
	}
	if err := json.Unmarshal(ask(t, s, "$JS.API.STREAM.RESTORE."+b.stream, about), &to); err != nil {
		t.Fatal(err)
	}
	for _, chunk := range b.chunks {
		if _, err := s.NC.Request(to.Subject, chunk, patience); err != nil {
			t.Fatal(err)
		}
	}
	ask(t, s, to.Subject, nil)
}

// ask sends a request of the JetStream API and fails the test for an error in the reply.
func ask(t *testing.T, s *faulttest.Scenario, subject string, data []byte) []byte {
	t.Helper()
	reply, err := s.NC.Request(subject, data, patience)
	if err != nil {
		t.Fatal(err)
	}
	var refused struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &refused); err != nil || refused.Error != nil {
		t.Fatalf("%s: %v", subject, errors.Join(err, refused.Error))
	}
	return reply.Data
}
