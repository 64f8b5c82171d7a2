package pool

import (
	"context"
	"sync"

	"rollcall/internal/jobs"
)

// gate bounds what a replica holds, by count and bytes: what is still to be called for, and
// what is called for and being settled. Bytes may overshoot, of the first by one delivery,
// whose size is only known once it is here, of the second by one batch for each slot.
type gate struct {
	intake, settle jobs.Room

	mu sync.Mutex
	// ahead is how many jobs may be taken beyond intake.
	ahead int
	// waiting is what was taken and whose calls have not ended, done what is being settled.
	waiting, done jobs.Room
	// freed is closed and replaced whenever something is given back.
	freed chan struct{}
}

func newGate(intake, settle jobs.Room) *gate {
	return &gate{intake: intake, settle: settle, freed: make(chan struct{})}
}

// wait blocks until there is room and returns how much, or the cause of ctx.
func (g *gate) wait(ctx context.Context) (jobs.Room, error) {
	for {
		g.mu.Lock()
		room := jobs.Room{Jobs: g.intake.Jobs + g.ahead - g.waiting.Jobs, Bytes: g.intake.Bytes - g.waiting.Bytes}
		freed := g.freed
		g.mu.Unlock()
		if room.Jobs > 0 && room.Bytes > 0 {
			return room, nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return jobs.Room{}, context.Cause(ctx)
		}
	}
}

// take counts deliveries as held.
func (g *gate) take(deliveries []jobs.Delivery) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting.Jobs += len(deliveries)
	for i := range deliveries {
		g.waiting.Bytes += int64(len(deliveries[i].Data))
	}
}

// give counts jobs as no longer held that were never called for.
func (g *gate) give(released []*jobs.Job) {
	if len(released) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	add(&g.waiting, released, -1)
	g.free()
}

// settling makes room for others: the calls for these jobs have ended. From now on so many
// jobs may be taken ahead.
func (g *gate) settling(called []*jobs.Job, ahead int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ahead = ahead
	add(&g.waiting, called, -1)
	add(&g.done, called, 1)
	g.free()
}

// settled counts jobs as no longer held that were being settled.
func (g *gate) settled(finished []*jobs.Job) {
	g.mu.Lock()
	defer g.mu.Unlock()
	add(&g.done, finished, -1)
}

// backlogged reports whether so much is being settled that no more should be called for.
func (g *gate) backlogged() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.done.Jobs >= g.settle.Jobs || g.done.Bytes >= g.settle.Bytes
}

func (g *gate) free() {
	close(g.freed)
	g.freed = make(chan struct{})
}

func (g *gate) now() jobs.Room {
	g.mu.Lock()
	defer g.mu.Unlock()
	return jobs.Room{Jobs: g.waiting.Jobs + g.done.Jobs, Bytes: g.waiting.Bytes + g.done.Bytes}
}

func add(room *jobs.Room, members []*jobs.Job, sign int64) {
	room.Jobs += int(sign) * len(members)
	for _, j := range members {
		room.Bytes += sign * int64(len(j.Data))
	}
}
