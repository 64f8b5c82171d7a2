package operate

import (
	"context"
	"fmt"
	"time"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// Hindrance says in a few words what holds up the jobs of the pool, as far as can be seen.
func (a *Admin) Hindrance(ctx context.Context) string {
	replicas, err := a.Replicas(ctx)
	switch {
	case err != nil:
		return fmt.Sprintf("the replicas of pool %s cannot be asked: %v", a.pool, err)
	case len(replicas) == 0:
		return fmt.Sprintf("no replica of pool %s answers; 'worker run' starts one", a.pool)
	}
	var state jobs.PoolState
	if a.streams.Source != bus.SourceCore {
		if state, err = a.State(ctx); err != nil {
			return fmt.Sprintf("the state of pool %s cannot be read: %v", a.pool, err)
		}
		if !state.PausedUntil.IsZero() {
			return fmt.Sprintf("pool %s is paused until %s; 'worker resume' ends that", a.pool, state.PausedUntil.UTC().Round(time.Second).Format(time.RFC3339))
		}
	}
	ready := 0
	for i := range replicas {
		if replicas[i].Ready {
			ready++
		}
		for _, s := range replicas[i].Services {
			if s.Breaker != jobs.BreakerClosed {
				return fmt.Sprintf("the breaker of service %s is %s; its last error: %s", s.Name, s.Breaker, s.LastError)
			}
		}
	}
	if ready == 0 {
		return fmt.Sprintf("none of the %d replicas of pool %s is ready; 'worker status' shows them", len(replicas), a.pool)
	}
	return fmt.Sprintf("pool %s has %d replicas ready, %d jobs waiting and %d in flight; is the subject one of the pool's?", a.pool, ready, state.Waiting, state.InFlight)
}
