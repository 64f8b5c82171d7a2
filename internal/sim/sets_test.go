package sim_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
)

// setMaxAge is longer than any run: no set of the simulation is abandoned.
const setMaxAge = 48 * time.Hour

// set is a set that somebody published, and what the world has seen of it.
type set struct {
	size    int
	born    time.Time
	members map[string]bool
	events  []jobs.SetEvent
}

// newSets returns the sets of a replica, over its view of the world.
func (r *replica) newSets() *ledger.Sets {
	return ledger.NewSets(r, ledger.SetsConfig{
		Names: ledger.Names{Pool: "sim", Stream: "JOBS"}, MaxAge: setMaxAge, EventTTL: 24 * time.Hour,
		EventSubject: bus.SetEventSubject, MaxEvent: func() int { return 1 << 20 }, Now: r.clock.Now,
	}, zerolog.Nop())
}

// Scan implements ledger.Upkeep.
func (r *replica) Scan(ctx context.Context, filter string, from uint64) ([]ledger.Entry, error) {
	if err := r.pass(ctx, toRead, toHear); err != nil {
		return nil, err
	}
	return r.world.scan(filter, from), nil
}

// publishSet accepts the members of a set, one of which says how many there are.
func (n *nemesis) publishSet(bodies []string) {
	w := n.world
	w.mu.Lock()
	name := "set-" + strconv.Itoa(len(w.sets))
	w.sets[name] = &set{size: len(bodies), born: w.now(), members: map[string]bool{}}
	w.mu.Unlock()
	declares, limited := n.dice.between(0, len(bodies)-1), n.deadlines(len(bodies))
	w.publish(bodies, func(i int, d *jobs.Delivery) {
		d.Header[jobs.HeaderSet] = []string{name}
		if i == declares {
			d.Header[jobs.HeaderSetSize] = []string{strconv.Itoa(len(bodies))}
		}
		limited(i, d)
		w.sets[name].members[d.Ref.UID()] = true
	})
}

// setEnded judges the event of a set at the moment it is stored. The caller holds the lock.
func (w *world) setEnded(subject string, data []byte) {
	e, err := jobs.DecodeSetEvent(data)
	if err != nil {
		w.violation("unreadable event of a set: %v", err)
		return
	}
	s := w.sets[e.ID]
	if w.lostSets[e.ID] {
		return
	}
	if s == nil {
		w.violation("the event of set %q, which nobody published", e.ID)
		return
	}
	s.events = append(s.events, e)
	w.datedSet(s, &e)
	if want := bus.SetEventSubject("sim", e.Data.Outcome, e.ID); subject != want {
		w.violation("the event of set %s is stored on %s, want %s", e.ID, subject, want)
	}
	var counts jobs.SetCounts
	var failed []string
	for _, event := range w.history.Events {
		for _, j := range event.Data.Jobs {
			if !s.members[j.UID] || !j.Final() {
				continue
			}
			counts.Total++
			if j.Outcome == jobs.Succeeded {
				counts.Succeeded++
				continue
			}
			failed = append(failed, j.UID)
			switch j.Outcome {
			case jobs.Failed:
				counts.Failed++
			case jobs.Expired:
				counts.Expired++
			case jobs.Invalid:
				counts.Invalid++
			default:
				counts.Cancelled++
			}
		}
	}
	if counts != e.Data.Counts || counts.Total != s.size || e.Data.Size != s.size {
		w.violation("the event of set %s says %+v of %d, its members ended as %+v of %d", e.ID, e.Data.Counts, e.Data.Size, counts, s.size)
	}
	var listed []string
	for _, f := range e.Data.Failed {
		listed = append(listed, f.UID)
	}
	slices.Sort(listed)
	slices.Sort(failed)
	if !e.Data.Truncated && !slices.Equal(listed, failed) {
		w.violation("the event of set %s lists %v, %v did not succeed", e.ID, listed, failed)
	}
}

// setVerdict returns what is wrong with the sets once every job is final.
func (w *world) setVerdict() (broken []string) {
	for name, s := range w.sets {
		if len(s.events) != 1 && !w.lostSets[name] {
			broken = append(broken, fmt.Sprintf("set %s of %d members has %d events", name, s.size, len(s.events)))
		}
	}
	return broken
}

// isTally reports whether a subject is that of a tally or of an end mark.
func isTally(subject string) bool { return strings.HasPrefix(subject, "done.ledger.sim.set.") }

// isSetEvent reports whether a subject is that of the event of a set.
func isSetEvent(subject string) bool { return strings.HasPrefix(subject, bus.SetEventPrefix) }
