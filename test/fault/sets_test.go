//go:build fault && linux

package fault_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"rollcall/internal/faulttest"
	"rollcall/internal/history"
	"rollcall/internal/jobs"
)

// setSize is how many members each set of this file has.
const setSize = 40

func setOf(n int) string { return fmt.Sprintf("import-%d", n/setSize) }

// inSets makes the jobs of a load members of sets, one after the other. The last member of each
// says how many there are, and every tenth job is refused by a service.
func inSets(s *faulttest.Scenario) {
	s.Load.Header(func(n int) nats.Header {
		h := nats.Header{jobs.HeaderSet: {setOf(n)}}
		if n%setSize == setSize-1 {
			h[jobs.HeaderSetSize] = []string{strconv.Itoa(setSize)}
		}
		return h
	})
	s.Services[0].Answer(faulttest.Each(func(a faulttest.Asked) string {
		if n := number(a.Data); n%10 == 7 {
			return "fail"
		}
		return "ok"
	}))
}

func number(data []byte) (n int) {
	_, _ = fmt.Sscanf(string(data), `{"n":%d}`, &n)
	return n
}

// judgeSets waits until every whole set has ended and compares each event with what became of its
// members.
func judgeSets(t *testing.T, s *faulttest.Scenario, h *history.History) {
	t.Helper()
	want, size := map[string]jobs.SetCounts{}, map[string]int{}
	set := map[string]string{}
	for _, j := range h.Accepted {
		name := setOf(s.Load.Number(j))
		set[j.UID] = name
		size[name]++
	}
	for i := range h.Events {
		for _, j := range h.Events[i].Data.Jobs {
			counts := want[set[j.UID]]
			switch j.Outcome {
			case jobs.Succeeded:
				counts.Succeeded++
			case jobs.Failed:
				counts.Failed++
			default:
				continue
			}
			counts.Total++
			want[set[j.UID]] = counts
		}
	}
	whole := 0
	for _, n := range size {
		if n == setSize {
			whole++
		}
	}
	var got map[string][]jobs.SetEvent
	faulttest.Until(t, patience, "every whole set has ended", func() bool {
		var err error
		got, err = faulttest.SetEvents(t.Context(), s.JS)
		return err == nil && len(got) >= whole
	})
	for name, events := range got {
		if len(events) != 1 || size[name] != setSize {
			t.Errorf("set %s of %d members has %d events", name, size[name], len(events))
		}
		if diff := cmp.Diff(want[name], events[0].Data.Counts); diff != "" {
			t.Errorf("set %s (-its members +its event):\n%s", name, diff)
		}
	}
	t.Logf("%d sets of %d members ended once each", whole, setSize)
}

// TestSetsSurviveKilledWorkers: replicas are killed by SIGKILL under load, one after the other.
func TestSetsSurviveKilledWorkers(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing", "search"})
	s.Setup()
	inSets(s)
	workers := []*faulttest.Worker{s.Start(), s.Start(), s.Start()}
	stop := s.Load.Start(400)
	for range 6 {
		faulttest.Progress(t, patience, "calls", s.Services[0].Count)
		i := s.Rand.IntN(len(workers))
		workers[i].Kill()
		workers[i] = s.Start()
	}
	faulttest.Progress(t, patience, "calls", s.Services[0].Count)
	stop()
	judgeSets(t, s, s.Judge(patience, history.History{Grace: 15 * time.Second}))
}

// TestSetsSurviveABrokerThatRestarts: kill -9 of the only broker under load.
func TestSetsSurviveABrokerThatRestarts(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing", "search"})
	s.Setup()
	inSets(s)
	s.Start()
	s.Start()
	stop := s.Load.Start(400)
	for range 3 {
		faulttest.Progress(t, patience, "calls", s.Services[0].Count)
		broker.Kill()
		broker.Restart()
	}
	faulttest.Progress(t, patience, "calls", s.Services[0].Count)
	stop()
	judgeSets(t, s, s.Judge(patience, history.History{Grace: 15 * time.Second}))
}

// TestSetsSurviveLostLeaders: three nodes, and the leader of the ledger is killed under load.
func TestSetsSurviveLostLeaders(t *testing.T) {
	t.Parallel()
	cluster, s := onThreeNodes(t, "billing", "search")
	inSets(s)
	s.Start()
	s.Start()
	stop := s.Load.Start(200)
	for range 2 {
		faulttest.Progress(t, clusterPatience, "calls", s.Services[0].Count)
		node := cluster.StreamLeader(s.JS, "DONE")
		node.Kill()
		faulttest.Progress(t, clusterPatience, "calls", s.Services[0].Count)
		node.Restart()
	}
	stop()
	judgeSets(t, s, s.Judge(clusterPatience, history.History{Grace: 15 * time.Second}))
}
