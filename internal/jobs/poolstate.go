package jobs

import "time"

// PoolState is what the broker knows of a pool at one moment.
type PoolState struct {
	Pool string    `json:"pool"`
	At   time.Time `json:"at"`
	// Waiting jobs were never handed out.
	Waiting uint64 `json:"waiting"`
	// InFlight jobs were handed out and are not settled: a replica works on them, or they wait
	// out a back-off.
	InFlight int `json:"in_flight"`
	// Delayed jobs of all pools wait in LATER until they are due; schedules do not count. -1 = not
	// known.
	Delayed int64 `json:"delayed"`
	// Redelivered of those in flight were handed out more than once.
	Redelivered int `json:"redelivered"`
	// Pulls are requests for jobs that wait at the broker: 0 means that no replica has room.
	Pulls int `json:"pulls"`
	// Oldest is when the oldest job that is not settled was published; zero for none.
	Oldest time.Time `json:"oldest,omitzero"`
	// Stuck jobs match the pool's subjects and are neither waiting nor in flight. A moment's
	// few are an effect of reading one thing after another. -1 = too many subjects to count.
	Stuck int64 `json:"stuck"`
	// DeadLetters of this pool, or those of all pools where there are too many subjects to count.
	DeadLetters uint64 `json:"dead_letters"`
	// PausedUntil is when a paused consumer goes on; zero if it is not paused.
	PausedUntil time.Time `json:"paused_until,omitzero"`
	// StoreUsed and StoreLimit are the account's JetStream storage in bytes; no limit is 0.
	StoreUsed  uint64        `json:"store_used_bytes"`
	StoreLimit uint64        `json:"store_limit_bytes"`
	Streams    []StreamState `json:"streams"`
}

// StreamState is the size of a stream.
type StreamState struct {
	Name     string `json:"name"`
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`
	// MaxBytes is the limit of the stream, 0 for none.
	MaxBytes uint64 `json:"max_bytes,omitempty"`
	// Replicas is the configured number, Lagging how many of them are offline or behind.
	Replicas int    `json:"replicas"`
	Lagging  int    `json:"lagging"`
	Leader   string `json:"leader,omitempty"`
}

// OldestAge is how long the oldest job that is not settled has existed at the time of the
// reading; 0 for none. The broker's clock gave both times.
func (s *PoolState) OldestAge() time.Duration {
	if s.Oldest.IsZero() {
		return 0
	}
	return max(s.At.Sub(s.Oldest), 0)
}
