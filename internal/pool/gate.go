package pool

import (
	"context"
	"sync"

	"rollcall/internal/jobs"
)

// gate bounds what a replica holds, by count and bytes. Bytes may overshoot by one delivery:
// the size of a job is only known once it is here.
type gate struct {
	limit jobs.Room

	mu   sync.Mutex
	held jobs.Room
	// freed is closed and replaced whenever something is given back.
	freed chan struct{}
}

func newGate(limit jobs.Room) *gate {
	return &gate{limit: limit, freed: make(chan struct{})}
}

// wait blocks until there is room and returns how much, or the cause of ctx.
func (g *gate) wait(ctx context.Context) (jobs.Room, error) {
	for {
		g.mu.Lock()
		room := jobs.Room{Jobs: g.limit.Jobs - g.held.Jobs, Bytes: g.limit.Bytes - g.held.Bytes}
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
	g.held.Jobs += len(deliveries)
	for i := range deliveries {
		g.held.Bytes += int64(len(deliveries[i].Data))
	}
}

// give counts jobs as no longer held.
func (g *gate) give(released []*jobs.Job) {
	if len(released) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held.Jobs -= len(released)
	for _, j := range released {
		g.held.Bytes -= int64(len(j.Data))
	}
	close(g.freed)
	g.freed = make(chan struct{})
}

func (g *gate) now() jobs.Room {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held
}
