//go:build fault && linux

package fault_test

import (
	"testing"
	"time"

	"rollcall/internal/faulttest"
	"rollcall/internal/history"
)

// clusterPatience allows for an election, which takes seconds on a busy machine.
const clusterPatience = 2 * time.Minute

// onThreeNodes sets a pool up on a cluster.
func onThreeNodes(t *testing.T, services ...string) (*faulttest.Cluster, *faulttest.Scenario) {
	t.Helper()
	cluster := faulttest.StartCluster(t, 3)
	s := faulttest.NewScenario(t, program, cluster.URLs(), services)
	s.Env = s.Env.With("ROLLCALL_REPLICAS", "3")
	faulttest.Until(t, clusterPatience, "streams with three replicas were created", func() bool {
		_, err := s.Command(s.Env, "setup")
		return err == nil
	})
	s.Setup()
	return cluster, s
}

// TestClusterLosesLeaders: three nodes; the leaders of JOBS, of DONE and of the consumer are
// killed and paused in turn under load, then two nodes at once. Everything goes on by itself.
func TestClusterLosesLeaders(t *testing.T) {
	t.Parallel()
	cluster, s := onThreeNodes(t, "billing", "search")
	workers := []*faulttest.Worker{s.Start(), s.Start()}
	stop := s.Load.Start(100)
	accepted := func() int { return len(s.Load.Accepted()) }
	goesOn := func() {
		faulttest.Progress(t, clusterPatience, "accepted jobs", accepted)
		faulttest.Progress(t, clusterPatience, "calls", s.Services[0].Count)
	}
	goesOn()
	leaders := []struct {
		of   string
		find func() *faulttest.Broker
	}{
		{"JOBS", func() *faulttest.Broker { return cluster.StreamLeader(s.JS, "JOBS") }},
		{"DONE", func() *faulttest.Broker { return cluster.StreamLeader(s.JS, "DONE") }},
		{"the consumer", func() *faulttest.Broker { return cluster.ConsumerLeader(s.JS, "JOBS", "default") }},
	}
	for _, i := range s.Rand.Perm(len(leaders)) {
		node := leaders[i].find()
		began := time.Now()
		node.Kill()
		goesOn()
		t.Logf("leader of %s killed: jobs accepted and called for again after %v", leaders[i].of, time.Since(began).Round(100*time.Millisecond))
		node.Restart()
		goesOn()

		node = leaders[i].find()
		began = time.Now()
		node.Pause()
		goesOn()
		t.Logf("leader of %s paused: jobs accepted and called for again after %v", leaders[i].of, time.Since(began).Round(100*time.Millisecond))
		node.Resume()
		goesOn()
	}
	for _, node := range cluster.Nodes[:2] {
		node.Kill()
	}
	refused := s.Load.Refusals()
	faulttest.Until(t, clusterPatience, "without a quorum nothing is accepted", func() bool { return s.Load.Refusals() > refused })
	for _, node := range cluster.Nodes[:2] {
		node.Restart()
	}
	goesOn()
	stop()
	s.Judge(clusterPatience, history.History{Grace: 15 * time.Second})
	for _, w := range workers {
		faulttest.Until(t, clusterPatience, "ready again", w.Ready)
	}
}
