package sim_test

import (
	"flag"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"rollcall/internal/jobs"
)

var (
	seeds = flag.Uint64("seeds", defaultSeeds, "how many seeds to run")
	first = flag.Uint64("first", 1, "the first seed to run")
	seed  = flag.Uint64("seed", 0, "run this one seed, 20 times")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestPromisesHoldUnderFaults runs seeds side by side, each in a bubble of its own.
func TestPromisesHoldUnderFaults(t *testing.T) {
	t.Parallel()
	if *seed != 0 {
		for range 20 {
			runSeed(t, *seed)
		}
		return
	}
	var next atomic.Uint64
	for shard := range 4 {
		t.Run(fmt.Sprint("shard ", shard), func(t *testing.T) {
			t.Parallel()
			for n := next.Add(1); n <= *seeds && !t.Failed(); n = next.Add(1) {
				runSeed(t, *first+n-1)
			}
		})
	}
}

func runSeed(t *testing.T, s uint64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if broken := play(s); len(broken) > 0 {
			t.Errorf("seed %d (again: go test ./internal/sim -seed %d):", s, s)
			for _, b := range broken {
				t.Errorf("  %s", b)
			}
		}
	})
}

// play runs one seed: minutes of faults, then calm until every job is final.
func play(s uint64) (broken []string) {
	w := newWorld(s)
	n := &nemesis{world: w, dice: w.stream("nemesis")}
	defer w.runNeighbour()()
	n.torment(time.Duration(n.dice.between(1, 4)) * time.Minute)
	n.heal()
	for start := time.Now(); w.waiting() > 0; time.Sleep(time.Second) {
		if time.Since(start) > 2*time.Hour {
			broken = append(broken, fmt.Sprintf("%d jobs still wait two hours after the last fault", w.waiting()))
			break
		}
	}
	n.replaceTheDead()      // somebody has to end the sets
	time.Sleep(3 * ackWait) // late settlements
	for _, r := range n.alive {
		r.stop(time.Minute)
	}
	return append(broken, w.violations()...)
}

// nemesis torments replicas.
type nemesis struct {
	world *world
	dice  *dice
	alive []*replica
	gone  []*replica
	names int
	// copied is an older state of the broker.
	copied *snapshot
}

func (n *nemesis) launch() {
	n.names++
	n.alive = append(n.alive, launch(n.world, fmt.Sprintf("r%d", n.names)))
}

// pick takes a replica out of the living.
func (n *nemesis) pick() *replica {
	i := n.dice.between(0, len(n.alive)-1)
	r := n.alive[i]
	n.alive = append(n.alive[:i:i], n.alive[i+1:]...)
	n.gone = append(n.gone, r)
	return r
}

func (n *nemesis) torment(d time.Duration) {
	for range n.dice.between(1, 3) {
		n.launch()
	}
	n.burst()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(n.dice.upTo(10 * time.Second)) {
		n.replaceTheDead()
		n.disaster()
		r := n.alive[n.dice.between(0, len(n.alive)-1)]
		switch n.dice.between(0, 11) {
		case 0:
			victim := n.pick()
			n.world.disturbed(victim.name)
			victim.kill()
		case 1:
			if r.stallable {
				r.pause()
				time.AfterFunc(n.dice.upTo(3*ackWait), r.resume)
			}
		case 2:
			r.cutOff()
			time.AfterFunc(n.dice.upTo(2*ackWait), func() { r.offline.Store(false) })
		case 3:
			for _, r := range n.alive {
				r.cutOff()
				time.AfterFunc(n.dice.upTo(ackWait), func() { r.offline.Store(false) })
			}
		case 4:
			drained := n.pick()
			go drained.stop(n.dice.upTo(ackWait))
		case 6:
			n.deadlineDrains()
		case 5:
			if len(n.alive) < 4 {
				n.launch()
			}
		case 7:
			n.cancel()
		case 8:
			n.refuse()
		case 9:
			n.deny(r)
		default:
			n.burst()
		}
	}
}

// disaster is what happens to a broker once in a long while.
func (n *nemesis) disaster() {
	switch n.dice.between(0, 60) {
	case 0:
		n.world.recreate()
	case 1:
		n.world.hold()
	case 2, 3:
		n.copied = n.world.snapshot()
	case 4, 5:
		if n.copied != nil {
			n.setBack(n.copied)
			n.copied = nil
		}
	case 6, 7, 8:
		n.world.skip(n.dice.between(1, 2*jobs.PageSize*jobs.PagesPerBucket))
	case 9:
		n.strand()
	}
}

// strand cuts a replica off for longer than every horizon. The others finish its jobs, and the pages
// are swept before it is back.
func (n *nemesis) strand() {
	r := n.alive[n.dice.between(0, len(n.alive)-1)]
	n.launch()
	r.cutOff()
	n.world.skip(jobs.PageSize * jobs.PagesPerBucket)
	for end := time.Now().Add(longHorizon + time.Minute); time.Now().Before(end); time.Sleep(ackWait) {
		n.replaceTheDead()
		r.cutOff() // whatever else ends meanwhile
	}
	r.offline.Store(false)
}

// burst publishes a few jobs, now and then one that no service takes or that kills its worker.
func (n *nemesis) burst() {
	var bodies []string
	for range n.dice.between(1, 40) {
		switch kind := n.dice.between(0, 150); kind {
		case 0, 1, 2, 3, 4, 5:
			bodies = append(bodies, []string{kindRefused, kindPoison, kindToxic, kindLarge, kindPartial, kindNobody}[kind])
		case 6, 7, 8:
			bodies = append(bodies, []string{kindToxic, kindPartial, kindNobody}[kind-6])
		default:
			bodies = append(bodies, fmt.Sprintf(`{"n":%d}`, n.dice.between(0, 1<<30)))
		}
	}
	if n.dice.between(0, 2) == 0 {
		n.publishSet(bodies)
		return
	}
	n.world.publish(bodies, n.deadlines(len(bodies)))
}

// replaceTheDead starts a replica for each that a poison job has killed.
func (n *nemesis) replaceTheDead() {
	var living []*replica
	for _, r := range n.alive {
		if r.dead.Load() {
			n.gone = append(n.gone, r)
			continue
		}
		living = append(living, r)
	}
	n.alive = living
	if len(n.alive) == 0 {
		n.launch()
	}
}

// heal ends all faults. A poison job may still kill a replica, so somebody keeps watch until
// the world is at rest.
func (n *nemesis) heal() {
	n.world.calm.Store(true)
	for _, r := range n.alive {
		r.resume()
		r.offline.Store(false)
		r.allow()
	}
	for start := time.Now(); n.world.waiting() > 0 && time.Since(start) < 90*time.Minute; time.Sleep(5 * time.Second) {
		n.replaceTheDead()
	}
	for _, r := range n.gone {
		r.resume()
		<-r.ended
	}
}
