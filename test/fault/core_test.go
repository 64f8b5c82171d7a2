//go:build fault && linux

package fault_test

import (
	"strings"
	"testing"
	"time"

	"rollcall/internal/faulttest"
	"rollcall/internal/history"
)

// The scenarios of this file are what `make servers` runs against each series of nats-server.

// mixed says ok to most jobs, fail to some, and retry at the first attempt of others.
func mixed() func(faulttest.Request) faulttest.Answer {
	return faulttest.Each(func(job faulttest.Asked) string {
		switch {
		case strings.HasSuffix(job.ID, "3"):
			return "fail"
		case strings.HasSuffix(job.ID, "7") && job.Attempt == 1:
			return "retry"
		}
		return "ok"
	})
}

// TestTheCore: jobs end in events, some after a retry, some with a dead letter; the worker's own
// commands work; doctor finds nothing wrong.
func TestTheCore(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing", "search"})
	s.Services[0].Answer(mixed())
	s.Setup()
	s.Start()
	s.Start()
	s.Load.Publish(2000, patience)
	h := s.Judge(patience, history.History{Calm: true})
	if len(h.DeadLetters) != 200 {
		t.Errorf("%d dead letters, want those of every tenth job", len(h.DeadLetters))
	}
	for _, command := range []string{"status", "dead ls", "doctor"} {
		out, err := s.Command(s.Env, strings.Fields(command)...)
		if err != nil {
			t.Errorf("worker %s: %v\n%s", command, err, out)
		}
	}
}

// TestTheCoreOnThreeNodes: the same with streams on three nodes, one of which is lost.
func TestTheCoreOnThreeNodes(t *testing.T) {
	t.Parallel()
	cluster := faulttest.StartCluster(t, 3)
	s := faulttest.NewScenario(t, program, cluster.URLs(), []string{"billing", "search"})
	s.Services[0].Answer(mixed())
	s.Env = s.Env.With("ROLLCALL_REPLICAS", "3")
	faulttest.Until(t, clusterPatience, "streams with three replicas were created", func() bool {
		_, err := s.Command(s.Env, "setup")
		return err == nil
	})
	s.Setup()
	s.Start()
	stop := s.Load.Start(100)
	faulttest.Progress(t, clusterPatience, "calls", s.Services[0].Count)
	lost := cluster.StreamLeader(s.JS, "DONE")
	lost.Kill()
	faulttest.Progress(t, clusterPatience, "accepted jobs", func() int { return len(s.Load.Accepted()) })
	faulttest.Progress(t, clusterPatience, "calls", s.Services[0].Count)
	lost.Restart()
	stop()
	s.Judge(clusterPatience, history.History{Grace: 15 * time.Second})
}

// TestDelayedJobs: a job published for later is done later, once. A server that cannot delay is
// named by doctor, and the pool works without.
func TestDelayedJobs(t *testing.T) {
	t.Parallel()
	const delay = 2 * time.Second
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
	s.Setup()
	s.Start()
	published := time.Now()
	out, err := s.Command(s.Env, "publish", "jobs.test.later", `{"n":1}`, "--delay", delay.String(), "--id", "later-1")
	if version := s.NC.ConnectedServerVersion(); err != nil {
		found, _ := s.Command(s.Env, "doctor")
		if !strings.Contains(found, "delayed jobs") {
			t.Fatalf("publish --delay on %s: %v\n%s\nand doctor does not say why:\n%s", version, err, out, found)
		}
		s.Load.Publish(100, patience)
		s.Judge(patience, history.History{Calm: true})
		t.Skip("NOT THERE: needs 2.15")
	}
	faulttest.Until(t, patience, "the job was called for", func() bool { return s.Services[0].Count() > 0 })
	if early := delay - time.Since(published); early > 0 {
		t.Errorf("called for %v too early", early)
	}
	faulttest.Until(t, patience, "at rest", s.AtRest)
	if calls := s.Services[0].Calls(); len(calls) != 1 || calls[0].ID != "later-1" {
		t.Errorf("calls %+v, want one for later-1", calls)
	}
}
