//go:build fault && linux

package fault_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/faulttest"
	"rollcall/internal/history"
)

// fat is a job body that fills a store soon.
func fat(n int) []byte {
	return fmt.Appendf(nil, `{"n":%d,"fill":"%s"}`, n, bytes.Repeat([]byte("x"), 8<<10))
}

// errInsufficient is the server's code for a store at its limit.
const errInsufficient = 10023

// TestStoreLimit: the file store is at max_file_store because of something else. Producers are
// refused, commits wait, nothing is acked without its commit; once there is room, all goes on.
func TestStoreLimit(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{MaxFile: "16MB"})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
	s.Setup()
	s.Load.Body(fat)
	s.Load.Publish(100, patience)
	hog, err := s.JS.CreateStream(t.Context(), jetstream.StreamConfig{Name: "HOG", Subjects: []string{"hog"}})
	if err != nil {
		t.Fatal(err)
	}
	for {
		var full *jetstream.APIError
		if _, err := s.JS.Publish(t.Context(), "hog", make([]byte, 256<<10)); errors.As(err, &full) && full.ErrorCode == errInsufficient {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	w := s.Start()
	faulttest.Until(t, patience, "batches wait for their commit", func() bool { return len(s.Services[0].Calls()) >= 16 })
	stop := s.Load.Start(50)
	faulttest.Until(t, patience, "producers are told", func() bool { return s.Load.Refusals() > 3 })
	h := history.History{}
	s.Collect(&h)
	if len(h.Events) != 0 {
		t.Errorf("%d events were stored in a store that is full", len(h.Events))
	}
	if stream, err := s.JS.Stream(t.Context(), "JOBS"); err != nil || stream.CachedInfo().State.Msgs != uint64(len(h.Accepted)) {
		t.Errorf("jobs were acked although no commit can be stored: %v", err)
	}
	if !w.Alive() {
		t.Error("the worker did not survive a full store")
	}
	if err := hog.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	faulttest.Progress(t, patience, "accepted jobs", func() int { return len(s.Load.Accepted()) })
	stop()
	s.Judge(patience, history.History{})
}

// TestStoreFullOfJobs: accepted jobs alone fill the store. Then commits have no room either
// and nothing can be acked to make some: an operator has to raise the limit, which needs no
// restart. Until then nothing is lost.
func TestStoreFullOfJobs(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{MaxFile: "8MB"})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
	s.Setup()
	s.Load.Body(fat)
	stop := s.Load.Start(5000)
	faulttest.Until(t, patience, "producers are told", func() bool { return s.Load.Refusals() > 3 })
	w := s.Start()
	faulttest.Until(t, patience, "batches wait for their commit", func() bool { return len(s.Services[0].Calls()) >= 16 })
	faulttest.Until(t, patience, "the log says what is wrong", func() bool { return strings.Contains(w.Log(), fmt.Sprint(errInsufficient)) })
	broker.Configure("1GB", "")
	broker.Reload()
	faulttest.Progress(t, patience, "calls", s.Services[0].Count)
	stop()
	s.Judge(patience, history.History{})
}

// TestDiskFull: a disk that is really full, with a limit that does not protect it. The broker
// stops writing, and needs a restart once there is room (nats-server 2.15); then every job
// that was accepted ends once.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t)
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{Store: filepath.Join(disk, "store")})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
	s.Services[0].Answer(func(faulttest.Request) faulttest.Answer { return faulttest.Answer{Wait: 20 * time.Millisecond} })
	s.Setup()
	s.Load.Body(fat)
	w := s.Start()
	stop := s.Load.Start(200)
	faulttest.Progress(t, patience, "calls", s.Services[0].Count)
	filler := filepath.Join(disk, "filler")
	fill(t, filler)
	faulttest.Until(t, patience, "producers are told", func() bool { return s.Load.Refusals() > 0 })
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	broker.Restart()
	faulttest.Progress(t, patience, "accepted jobs", func() int { return len(s.Load.Accepted()) })
	stop()
	s.Judge(patience, history.History{Grace: patience})
	faulttest.Until(t, patience, "ready again", w.Ready)
}

// smallDisk mounts a small file system; that takes the rights of root.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("rollcall-fault", dir, "tmpfs", 0, "size=32m"); err != nil {
		t.Skipf("NOT TESTED: a real ENOSPC needs root to mount a small tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// fill writes a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		switch _, err := f.Write(make([]byte, size)); {
		case errors.Is(err, syscall.ENOSPC):
			size /= 2
		case err != nil:
			t.Fatal(err)
		}
	}
}

// TestConsumerDeletedAndAltered: somebody deletes the consumer under the pool, and changes it.
func TestConsumerDeletedAndAltered(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
	s.Setup()
	w := s.Start()
	s.Start()
	stop := s.Load.Start(200)
	var consumer jetstream.Consumer
	for range 2 {
		faulttest.Progress(t, patience, "calls", s.Services[0].Count)
		if err := s.JS.DeleteConsumer(t.Context(), "JOBS", "default"); err != nil {
			t.Fatal(err)
		}
		// Calls alone do not show it: they may be for jobs that were taken before.
		faulttest.Until(t, patience, "the consumer was made again", func() bool {
			var err error
			consumer, err = s.JS.Consumer(t.Context(), "JOBS", "default")
			return err == nil
		})
	}
	faulttest.Progress(t, patience, "calls", s.Services[0].Count)
	altered := consumer.CachedInfo().Config
	altered.AckWait = 5 * time.Second
	altered.MaxAckPending = 100
	if _, err := s.JS.UpdateConsumer(t.Context(), "JOBS", altered); err != nil {
		t.Fatal(err)
	}
	faulttest.Progress(t, patience, "calls", s.Services[0].Count)
	stop()
	s.Judge(patience, history.History{Grace: 15 * time.Second})
	faulttest.Until(t, patience, "ready", w.Ready)
}

// TestJobStreamDeleted: without ROLLCALL_ENSURE a pool whose stream is gone is not ready, says
// why, and takes the jobs of the stream that an operator makes; its sequence 1 is new work.
func TestJobStreamDeleted(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
	s.Setup()
	w := s.Start("ROLLCALL_ENSURE", "false")
	s.Load.Publish(100, patience)
	first := s.Judge(patience, history.History{Calm: true})
	if err := s.JS.DeleteStream(t.Context(), "JOBS"); err != nil {
		t.Fatal(err)
	}
	faulttest.Until(t, patience, "not ready without its stream", func() bool { return !w.Ready() })
	faulttest.Until(t, patience, "the log says what fixes it", func() bool { return strings.Contains(w.Log(), "worker setup") })
	if !w.Alive() {
		t.Error("the worker did not survive that its stream was deleted")
	}
	s.Setup()
	faulttest.Until(t, patience, "ready again", w.Ready)
	s.Load.Publish(100, patience)
	faulttest.WaitRest(t, s.JS, "JOBS", "default", patience)
	second := history.History{Calm: true, AtRest: true}
	s.Collect(&second)
	second.Accepted = append(second.Accepted, first.Accepted...)
	s.Report(&second)
}

// TestLedgerStreamDeleted: deleting DONE forgets what was finished, and nothing promises to
// survive it; but jobs that are not settled yet must not be acked, and end in the new stream.
func TestLedgerStreamDeleted(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
	s.Setup()
	if err := s.JS.DeleteStream(t.Context(), "DONE"); err != nil {
		t.Fatal(err)
	}
	s.Load.Publish(100, patience)
	w := s.Start("ROLLCALL_ENSURE", "true")
	s.Judge(patience, history.History{Calm: true})
	if err := s.JS.DeleteStream(t.Context(), "DONE"); err != nil {
		t.Fatal(err)
	}
	s.Load = faulttest.NewLoad(t, s.JS, "JOBS", "jobs.again")
	s.Load.Publish(100, patience)
	called := len(s.Services[0].Calls())
	faulttest.Until(t, patience, "batches wait for their commit", func() bool { return len(s.Services[0].Calls()) >= called+16 })
	if out, err := s.Command(s.Env, "setup"); err != nil {
		t.Fatalf("worker setup: %v\n%s", err, out)
	}
	h := history.History{AtRest: true, Grace: patience}
	faulttest.WaitRest(t, s.JS, "JOBS", "default", patience)
	s.Collect(&h)
	h.Calls = nil // those of the first jobs have no events any more
	s.Report(&h)
	faulttest.Until(t, patience, "ready", w.Ready)
}

// TestLedgerStreamAltered: somebody edits DONE under the pool so that nothing can be committed,
// then so that pages cannot be read. Jobs wait; doctor names the setting; with the old settings
// all goes on.
func TestLedgerStreamAltered(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		setting string
		alter   func(*jetstream.StreamConfig)
	}{
		{"allow_atomic", func(config *jetstream.StreamConfig) { config.AllowAtomicPublish = false }},
		{"allow_direct", func(config *jetstream.StreamConfig) { config.AllowDirect = false }},
	} {
		t.Run(c.setting, func(t *testing.T) {
			t.Parallel()
			broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
			s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
			s.Setup()
			w := s.Start()
			s.Load.Publish(100, patience)
			s.Judge(patience, history.History{Calm: true})
			done, err := s.JS.Stream(t.Context(), "DONE")
			if err != nil {
				t.Fatal(err)
			}
			wanted := done.CachedInfo().Config
			altered := wanted
			c.alter(&altered)
			if _, err := s.JS.UpdateStream(t.Context(), altered); err != nil {
				t.Fatal(err)
			}
			stop := s.Load.Start(20)
			began := time.Now()
			faulttest.Until(t, patience, "leases have passed", func() bool { return time.Since(began) > 4*lease })
			stop()
			if found, _ := s.Command(s.Env, "doctor", "-o", "json"); !strings.Contains(found, c.setting) {
				t.Errorf("the doctor does not name the setting:\n%s", found)
			}
			if _, err := s.JS.UpdateStream(t.Context(), wanted); err != nil {
				t.Fatal(err)
			}
			h := s.Judge(patience, history.History{Grace: patience})
			if len(h.DeadLetters) != 0 {
				t.Errorf("%d jobs have dead letters although every service said ok", len(h.DeadLetters))
			}
			faulttest.Until(t, patience, "ready", w.Ready)
		})
	}
}
