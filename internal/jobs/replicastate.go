package jobs

import "time"

// ReplicaState is what a replica reports of itself.
type ReplicaState struct {
	Replica  string    `json:"replica"`
	Pool     string    `json:"pool"`
	Version  string    `json:"version"`
	Revision string    `json:"revision,omitempty"`
	Started  time.Time `json:"started"`
	// Phase is starting, working, draining or ended.
	Phase string `json:"phase"`
	// Ready is true while it takes jobs.
	Ready bool `json:"ready"`
	// HeldJobs and HeldBytes are what it has taken and not settled.
	HeldJobs  int   `json:"held_jobs"`
	HeldBytes int64 `json:"held_bytes"`
	// Rate is the jobs that ended per second in the last minute; Success is the part of them
	// that succeeded, 1 for all, -1 if there were none.
	Rate     float64        `json:"rate"`
	Success  float64        `json:"success"`
	Services []ServiceState `json:"services"`
	// Settings are those that the replicas of a pool should have in common, without secrets, and
	// Digest sums them up.
	Settings map[string]string `json:"settings,omitempty"`
	Digest   string            `json:"digest,omitempty"`
}
