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
	// Pool is nil where there is no stream, or where it could not be read; then PoolError
	// says why.
	Pool      *jobs.PoolState `json:"pool,omitempty"`
	PoolError string          `json:"pool_error,omitempty"`
	// Seconds are the last minutes of this replica, the oldest first.
	Seconds  []jobs.Tally        `json:"seconds"`
	Batches  []jobs.BatchSummary `json:"batches"`
	Settings []Setting           `json:"settings"`
}

// Setting is one variable as it took effect, masked where it is a secret.
type Setting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"`
}
