package web

import (
	"context"
	"time"

	"rollcall/internal/jobs"
)

// Viewer knows what the dashboard shows.
type Viewer interface {
	// Status is called for every page; it must not take longer than a person waits.
	Status(ctx context.Context) Status
}

// Status is what the dashboard shows, and what /api/v1/status answers.
type Status struct {
	At      time.Time         `json:"at"`
	Replica jobs.ReplicaState `json:"replica"`
	Checks  []Check           `json:"checks"`
	// Pool is the last state of the pool that could be read, at PoolReadAt by the clock of this
	// replica; nil where there is no stream, or before the first reading. PoolError says why it
	// cannot be read at the moment.
	Pool       *jobs.PoolState `json:"pool,omitempty"`
	PoolReadAt time.Time       `json:"pool_read_at,omitzero"`
	PoolError  string          `json:"pool_error,omitempty"`
	// Peers are all replicas of the pool that answered, this one included.
	Peers Peers `json:"peers"`
	// Seconds are the last minutes of this replica, the oldest first; the last one ended at At.
	Seconds  []jobs.Tally        `json:"seconds"`
	Batches  []jobs.BatchSummary `json:"batches"`
	Settings []Setting           `json:"settings"`
}

// Peers is what the replicas of a pool report of themselves over NATS.
type Peers struct {
	Replicas []jobs.ReplicaState `json:"replicas"`
	// ReadAt is when they were asked last with success, by the clock of this replica.
	ReadAt time.Time `json:"read_at,omitzero"`
	// Error says why they cannot be asked at the moment.
	Error string `json:"error,omitempty"`
	// Mixed are the settings in which the replicas differ; empty if they agree.
	Mixed []jobs.Difference `json:"mixed,omitempty"`
}

// Setting is one variable as it took effect, masked where it is a secret.
type Setting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"`
}
