package pool

import (
	"context"
	"sync"

	"rollcall/internal/jobs"
)

// gate bounds the jobs that a replica holds, by count and by bytes as they are in memory: those that
// are still to be called for, and those that are being settled. Bytes may overshoot, of the first
// by one delivery, whose size is only known once it is here, of the second by one batch for each
// slot.
type gate struct {
	intake, settle jobs.Room

	mu sync.Mutex
	// ahead is how many jobs may be taken beyond intake.
	ahead int
	// waiting are the jobs whose calls have not ended, done those that are being settled.
	waiting, done jobs.Room
	// freed is closed and replaced whenever something is given back.
	freed chan struct{}
}

func newGate(intake, settle jobs.Room) *gate {
	return &gate{intake: intake, settle: settle, freed: make(chan struct{})}
}

// left is the room for more; the lock is held.
func (g *gate) left() jobs.Room {
	return jobs.Room{Jobs: g.intake.Jobs + g.ahead - g.waiting.Jobs, Bytes: g.intake.Bytes - g.waiting.Bytes}
}

// wait blocks until there is room and returns how much, or the cause of ctx.
func (g *gate) wait(ctx context.Context) (jobs.Room, error) {
	for {
		g.mu.Lock()
		room := g.left()
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
		g.waiting.Bytes += deliveries[i].Size()
	}
}

// release counts jobs as no longer held that were never called for.
func (g *gate) release(unstarted []*jobs.Job) {
	if len(unstarted) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = g.waiting.Minus(roomOf(unstarted))
	g.free()
}

// called makes room for others: the calls for these jobs have ended, and their settlement takes
// kept bytes more. From now on so many jobs may be taken ahead.
func (g *gate) called(room jobs.Room, kept int64, ahead int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ahead = ahead
	g.waiting = g.waiting.Minus(room)
	g.done = g.done.Plus(room)
	g.done.Bytes += kept
	g.free()
}

// ended counts jobs as no longer held that were being settled.
func (g *gate) ended(room jobs.Room, kept int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.done = g.done.Minus(room)
	g.done.Bytes -= kept
}

// full reports whether nothing more can be taken before something ends, and all that was taken
// is in the hands of the dispatcher, which holds so many jobs that are still to be called for.
func (g *gate) full(inHand int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	left := g.left()
	return (left.Jobs <= 0 || left.Bytes <= 0) && g.waiting.Jobs == inHand
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

func (g *gate) held() jobs.Room {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting.Plus(g.done)
}

// roomOf is what jobs take.
func roomOf(members []*jobs.Job) (room jobs.Room) {
	room.Jobs = len(members)
	for _, j := range members {
		room.Bytes += j.Size()
	}
	return room
}
