package jobs

import "time"

// BatchSummary is a batch that ended, as the dashboard shows it.
type BatchSummary struct {
	ID   string `json:"id"`
	Seal Seal   `json:"seal"`
	// Result says how it ended; there is an outcome if it was committed.
	Result   BatchResult     `json:"result"`
	Outcome  BatchOutcome    `json:"outcome"`
	Counts   Counts          `json:"counts"`
	SealedAt time.Time       `json:"sealed_at"`
	EndedAt  time.Time       `json:"ended_at"`
	Duration Millis          `json:"duration_ms"`
	Services []ServiceReport `json:"services"`
	TraceID  string          `json:"trace_id,omitempty"`
}

// Tally counts the jobs that ended within one second.
type Tally struct {
	Succeeded int `json:"succeeded"`
	// Dead are those that ended in a dead letter, see [Counts.Dead].
	Dead     int `json:"failed"`
	Retrying int `json:"retrying"`
}
