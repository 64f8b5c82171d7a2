//go:build linux

package power_test

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/faulttest"
	"rollcall/internal/history"
	"rollcall/internal/jobs"
)

const (
	// always is what deploy/nats/nats-server.conf sets.
	always = "always"
	// cuts is how often the power goes in one run.
	cuts = 3
	// grace is how long after its end a job may be called for again: both workers may have
	// taken it in before the power went.
	grace = 15 * time.Second
)

// store is where a broker keeps its streams on a disk.
func (d *disk) store() string { return filepath.Join(d.Point, "jetstream") }

// lose takes the power from machines at once: brokers and their disks.
func lose(disks []*disk, brokers ...*faulttest.Broker) {
	for _, b := range brokers {
		b.Signal(syscall.SIGKILL)
	}
	for i, d := range disks {
		d.process.Signal(syscall.SIGKILL)
		brokers[i].Kill() // waits until it is gone; what it still had to write failed with its disk
	}
	for _, d := range disks {
		d.cut()
		d.mount()
	}
}

// TestPowerLossOfASingleNode: with sync_interval always nothing that was accepted is missing and
// nothing ends twice, however often the power goes.
func TestPowerLossOfASingleNode(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{Store: d.store(), Sync: always})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing", "search"})
	s.Setup()
	workers := []*faulttest.Worker{s.Start(), s.Start()}
	stop := s.Load.Start(300)
	for range cuts {
		faulttest.Progress(t, patience, "calls", s.Services[0].Count)
		lose([]*disk{d}, broker)
		broker.Restart()
		faulttest.Progress(t, patience, "accepted jobs", func() int { return len(s.Load.Accepted()) })
	}
	stop()
	s.Judge(patience, history.History{Grace: grace})
	for _, w := range workers {
		faulttest.Until(t, patience, "ready again", w.Ready)
	}
}

// three starts a cluster whose nodes have a disk each, and a scenario on it.
func three(t *testing.T, interval string) ([]*disk, *faulttest.Cluster, *faulttest.Scenario) {
	t.Helper()
	disks := []*disk{newDisk(t), newDisk(t), newDisk(t)}
	options := make([]faulttest.BrokerOptions, len(disks))
	for i, d := range disks {
		options[i] = faulttest.BrokerOptions{Store: d.store(), Sync: interval}
	}
	cluster := faulttest.StartNodes(t, options)
	s := faulttest.NewScenario(t, program, cluster.URLs(), []string{"billing", "search"})
	s.Env = s.Env.With("ROLLCALL_REPLICAS", "3")
	faulttest.Until(t, patience, "streams with three replicas were created", func() bool {
		_, err := s.Command(s.Env, "setup")
		return err == nil
	})
	s.Setup()
	return disks, cluster, s
}

// TestPowerLossOfAllThreeNodes: the same with three replicas that lose their power together.
func TestPowerLossOfAllThreeNodes(t *testing.T) {
	t.Parallel()
	disks, cluster, s := three(t, always)
	workers := []*faulttest.Worker{s.Start(), s.Start()}
	stop := s.Load.Start(100)
	for range cuts {
		faulttest.Progress(t, patience, "calls", s.Services[0].Count)
		lose(disks, cluster.Nodes...)
		cluster.Restart()
		faulttest.Progress(t, patience, "accepted jobs", func() int { return len(s.Load.Accepted()) })
	}
	stop()
	s.Judge(patience, history.History{Grace: grace})
	for _, w := range workers {
		faulttest.Until(t, patience, "ready again", w.Ready)
	}
}

// TestPowerLossOfOneOfThreeNodes: with the server's default interval the other two nodes still
// know what the one that lost its power forgot.
func TestPowerLossOfOneOfThreeNodes(t *testing.T) {
	t.Parallel()
	disks, cluster, s := three(t, "")
	for _, d := range disks {
		d.sync()
	}
	s.Start()
	s.Start()
	stop := s.Load.Start(100)
	for i, node := range cluster.Nodes {
		faulttest.Progress(t, patience, "calls", s.Services[0].Count)
		lose(disks[i:i+1], node)
		faulttest.Progress(t, patience, "accepted jobs", func() int { return len(s.Load.Accepted()) })
		node.Restart()
		// Not before it has caught up: two that have forgotten are a majority.
		caughtUp(t, s, len(cluster.Nodes)-1)
	}
	stop()
	s.Judge(patience, history.History{Grace: grace})
}

// caughtUp waits until every stream has so many followers, all of which hold what the leader
// holds.
func caughtUp(t *testing.T, s *faulttest.Scenario, followers int) {
	t.Helper()
	for _, name := range []string{"JOBS", "DONE", "DEAD"} {
		faulttest.Until(t, patience, name+" is in sync", func() bool {
			stream, err := s.JS.Stream(t.Context(), name)
			if err != nil || stream.CachedInfo().Cluster == nil {
				return false
			}
			current := 0
			for _, r := range stream.CachedInfo().Cluster.Replicas {
				if r.Current && !r.Offline {
					current++
				}
			}
			return current == followers
		})
	}
}

// TestPowerLossWithTheDefaultInterval measures what the default costs: the broker says yes first
// and syncs every two minutes. It also shows that the disk under these tests forgets.
func TestPowerLossWithTheDefaultInterval(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{Store: d.store()})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
	s.Setup()
	const synced = 500
	s.Load.Publish(synced, patience)
	d.sync()
	stop := s.Load.Start(500)
	worker := s.Start()
	faulttest.Until(t, patience, "jobs were accepted after the sync", func() bool { return len(s.Load.Accepted()) >= 10*synced })
	stop()
	worker.Kill()
	lose([]*disk{d}, broker)
	broker.Restart()
	final := map[string]bool{}
	h := history.History{}
	s.Collect(&h)
	for _, e := range h.Events {
		for i := range e.Data.Jobs {
			final[e.Data.Jobs[i].UID] = final[e.Data.Jobs[i].UID] || e.Data.Jobs[i].Final()
		}
	}
	stream, err := s.JS.Stream(t.Context(), "JOBS")
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for i, job := range h.Accepted {
		if final[job.UID] || waits(t, stream, job) {
			continue
		}
		lost++
		if i < synced {
			t.Errorf("job %s is gone although it was on the disk", job.UID)
		}
	}
	t.Logf("of %d jobs accepted after the last sync %d left no trace: no event, and not in the stream", len(h.Accepted)-synced, lost)
	if lost == 0 {
		t.Error("nothing was lost: this disk does not forget, and the other tests show nothing")
	}
}

// waits reports whether the stream still holds a job.
func waits(t *testing.T, stream jetstream.Stream, job history.Job) bool {
	t.Helper()
	ref, err := jobs.ParseUID(job.UID)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), ref.Seq)
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		t.Fatal(err)
	}
	return err == nil && m.Header.Get(jetstream.MsgIDHeader) == job.ID
}
