package app_test

import (
	"fmt"
	"slices"
	"testing"

	"rollcall/internal/faulttest"
	"rollcall/internal/history"
)

// only returns the settings of a replica that knows some of the rig's services.
func (r *rig) only(names ...string) string {
	list := ""
	for _, name := range names {
		list += "," + name + "=" + r.services[name].URL()
	}
	return "ROLLCALL_SERVICES=" + list[1:]
}

// named returns the services that an event reports of.
func named(e history.Event) (names []string) {
	for _, s := range e.Data.Services {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	return names
}

func says(status string) func(faulttest.Request) faulttest.Answer {
	return faulttest.Each(func(faulttest.Asked) string { return status })
}

// TestAServiceAddedByARollingDeployIsNotClaimed: one replica knows a service that the other
// does not. Every event names exactly the services of the replica that settled it, and the new
// service has seen exactly the jobs whose events say so.
func TestAServiceAddedByARollingDeployIsNotClaimed(t *testing.T) {
	t.Parallel()
	const sent = 120
	r := newRig(t, []string{"old", "added"}, "ROLLCALL_BATCH_SIZE=4", "ROLLCALL_BATCHES_IN_FLIGHT=1")
	// The first call waits for the second. A replica makes one call at a time, so both take part.
	both := make(chan struct{})
	r.services["old"].Answer(func(req faulttest.Request) faulttest.Answer {
		if req.Number == 2 {
			close(both)
		}
		<-both
		return faulttest.Answer{}
	})
	r.start(r.only("old"))          // r1
	r.start(r.only("old", "added")) // r2
	for i := range sent {
		r.send("jobs.test", fmt.Sprintf("j%d", i), "1")
	}
	h := r.judge()
	services := map[string][]string{"r1": {"old"}, "r2": {"added", "old"}}
	seen := map[string]int{}
	share := map[string]int{}
	for _, c := range r.services["added"].Calls() {
		seen[c.ID]++
	}
	for _, e := range h.Events {
		if got := named(e); !slices.Equal(got, services[e.Data.Replica]) {
			t.Errorf("the event of %s names the services %v, want %v", e.Data.Replica, got, services[e.Data.Replica])
		}
		for _, j := range e.Data.Jobs {
			share[e.Data.Replica]++
			_, claimed := j.Services["added"]
			if claimed != (seen[j.ID] == 1) {
				t.Errorf("job %s: the event claims the new service: %v; it was called %d times", j.ID, claimed, seen[j.ID])
			}
		}
	}
	if share["r1"] == 0 || share["r2"] == 0 || share["r1"]+share["r2"] != sent {
		t.Errorf("the replicas' shares are %v, want %d and some for each", share, sent)
	}
}

// TestAReplicaThatDoesNotKnowAServiceFinishesWithoutIt: the job waits for a service that the
// next replica does not have any more.
func TestAReplicaThatDoesNotKnowAServiceFinishesWithoutIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"kept", "removed"})
	r.services["removed"].Answer(says("retry"))
	stop := r.start()
	r.send("jobs.test", "a", "1")
	faulttest.Until(t, limit, "the service to be removed holds the job up", func() bool { return callsFor(r.services["removed"], "a") > 0 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	before := callsFor(r.services["removed"], "a")
	r.start(r.only("kept"))
	h := r.judge()
	end := ends(h)["a"]
	if _, claimed := end.Services["removed"]; claimed || end.Outcome != "succeeded" {
		t.Errorf("the job ended as %+v, want a success that does not name the removed service", end)
	}
	if n := callsFor(r.services["removed"], "a"); n != before {
		t.Errorf("the removed service was called %d times by a replica that does not know it", n-before)
	}
	if n := callsFor(r.services["kept"], "a"); n != 1 {
		t.Errorf("the service that had succeeded was called %d times", n)
	}
}

// TestASuccessOutlivesAReplicaThatDoesNotKnowTheService: new, old, new take the attempts of one
// job in turn; the service that only the new ones know is called once.
func TestASuccessOutlivesAReplicaThatDoesNotKnowTheService(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"old", "added"})
	r.services["old"].Answer(says("retry"))
	attempts := func() int { return callsFor(r.services["old"], "a") }
	stop := r.start()
	r.send("jobs.test", "a", "1")
	faulttest.Until(t, limit, "a new replica has tried", func() bool { return attempts() > 0 && callsFor(r.services["added"], "a") > 0 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	tried := attempts()
	stop = r.start(r.only("old"))
	faulttest.Until(t, limit, "an old replica has tried", func() bool { return attempts() > tried })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	r.services["old"].Answer(says("ok"))
	r.start()
	end := ends(r.judge())["a"]
	if end.Outcome != "succeeded" || end.Services["added"] != "ok" || end.Services["old"] != "ok" {
		t.Errorf("the job ended as %+v", end)
	}
	if n := callsFor(r.services["added"], "a"); n != 1 {
		t.Errorf("the added service was called %d times, want 1", n)
	}
}

// TestARenamedServiceIsCalledAgain: a name is what successes are remembered by. Under its new
// name a service gets the job again, and can know it by its source and id.
func TestARenamedServiceIsCalledAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"stock", "inventory", "slow"})
	r.services["slow"].Answer(says("retry"))
	stop := r.start(r.only("stock", "slow"))
	r.send("jobs.test", "a", "1")
	faulttest.Until(t, limit, "the job was tried", func() bool {
		return callsFor(r.services["slow"], "a") > 0 && callsFor(r.services["stock"], "a") > 0
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	r.services["slow"].Answer(says("ok"))
	r.start(r.only("inventory", "slow"))
	end := ends(r.judge())["a"]
	if end.Outcome != "succeeded" || end.Services["inventory"] != "ok" {
		t.Errorf("the job ended as %+v", end)
	}
	before, after := r.services["stock"].Calls(), r.services["inventory"].Calls()
	if len(before) != 1 || len(after) != 1 || before[0].Source != after[0].Source || before[0].ID != after[0].ID {
		t.Errorf("under the old name it was called as %+v, under the new one as %+v; want once each, with the same source and id", before, after)
	}
}
