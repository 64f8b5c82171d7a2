//go:build fault && linux

package fault_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/faulttest"
)

// delayedJob is a job to a subject of jobs.> that is due after a while, in plain NATS.
func delayedJob(id, kind string, after time.Duration) *nats.Msg {
	return &nats.Msg{Subject: "later." + id, Data: []byte("{}"), Header: nats.Header{
		"ce-id": {id}, "Nats-Schedule": {"@at " + time.Now().Add(after).UTC().Format(time.RFC3339Nano)}, "Nats-Schedule-Target": {"due." + kind},
	}}
}

// ended returns the uids of the jobs on a subject that are final, by their ids.
func ended(t *testing.T, s *faulttest.Scenario, subject string) map[string][]string {
	t.Helper()
	events, err := faulttest.Events(t.Context(), s.JS)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for i := range events {
		for _, j := range events[i].Data.Jobs {
			if j.Subject == subject && j.Final() {
				found[j.ID] = append(found[j.ID], j.UID)
			}
		}
	}
	return found
}

// state reads the state of a stream.
func state(t *testing.T, s *faulttest.Scenario, name string) jetstream.StreamState {
	t.Helper()
	return lookUp(t, s, name, clusterPatience).State
}

// TestDelayedJobsAreDoneOnceWhateverTheBrokerForgets: the broker is killed as soon as its queue is
// empty. What it has written down of how far it took LATER up is older than that.
func TestDelayedJobsAreDoneOnceWhateverTheBrokerForgets(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
	s.Setup()
	s.Start()
	const each = 20
	published := 0
	wave := func() {
		faulttest.Until(t, patience, "the test is connected", s.NC.IsConnected)
		for range each {
			published++
			if _, err := s.JS.PublishMsg(t.Context(), delayedJob(fmt.Sprint("d", published), "test.late", time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		faulttest.Until(t, patience, "the delayed jobs are done and gone", func() bool {
			jobs := state(t, s, "JOBS")
			return jobs.Msgs == 0 && len(ended(t, s, "jobs.test.late")) == published
		})
	}
	wave()
	broker.Signal(syscall.SIGTERM) // a broker that ends in good order writes down how far it is
	broker.WaitExit(patience)
	broker.Restart()
	for range 2 {
		wave()
		broker.Kill()
		broker.Restart()
	}
	wave() // nothing comes out of LATER before what was there longer
	for id, uids := range ended(t, s, "jobs.test.late") {
		if len(uids) != 1 {
			t.Errorf("job %s is final %d times: %v", id, len(uids), uids)
		}
	}
	if later := state(t, s, "LATER"); later.Msgs != 0 {
		t.Errorf("%d messages are left in LATER", later.Msgs)
	}
}

// TestDelayedJobsUnderLostLeaders: three nodes; the leaders of LATER, of JOBS and of DONE are killed
// while delayed jobs become due.
func TestDelayedJobsUnderLostLeaders(t *testing.T) {
	t.Parallel()
	cluster, s := onThreeNodes(t, "billing")
	s.Start()
	s.Start()
	const total = 200
	for i := range total {
		if _, err := s.JS.PublishMsg(t.Context(), delayedJob(fmt.Sprint("d", i), "test.late", time.Duration(3+i/10)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range []string{"LATER", "JOBS", "DONE"} {
		part := (i + 1) * total / 4
		faulttest.Until(t, clusterPatience, fmt.Sprint(part, " delayed jobs were called for"), func() bool { return len(s.Services[0].Calls()) >= part })
		node := cluster.StreamLeader(s.JS, name)
		node.Kill()
		node.Restart()
	}
	var found map[string][]string
	faulttest.Until(t, clusterPatience, "all delayed jobs are done and gone", func() bool {
		found = ended(t, s, "jobs.test.late")
		return len(found) == total && state(t, s, "JOBS").Msgs == 0
	})
	for id, uids := range found {
		if len(uids) != 1 {
			t.Errorf("job %s is final %d times: %v", id, len(uids), uids)
		}
	}
	faulttest.Until(t, clusterPatience, "LATER is empty", func() bool { return state(t, s, "LATER").Msgs == 0 })
}
