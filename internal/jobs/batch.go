package jobs

import "time"

// Seal is the word that says why a batch was closed.
type Seal string

// The reasons a batch is sealed, as they stand in the event.
const (
	SealSize   Seal = "size"
	SealBytes  Seal = "bytes"
	SealLinger Seal = "linger"
	SealIdle   Seal = "idle"
	SealDrain  Seal = "drain"
	SealLone   Seal = "lone"
	SealCancel Seal = "cancel"
)

// Batch is the jobs that one replica sealed together. Membership never changes after the seal;
// see [Batch.Without].
type Batch struct {
	// ID is a UUIDv7.
	ID   string
	Pool string
	// Replica is the name of the process that sealed it.
	Replica string
	Key     string
	Seal    Seal
	// SealedAt is by the clock of its replica.
	SealedAt time.Time
	Jobs     []*Job
	// Traceparent is the W3C trace context of the batch, empty for none. An observer sets it.
	Traceparent string
}

// Without returns a copy of the batch that lacks the marked jobs, and those jobs.
func (b *Batch) Without(marked []bool) (rest *Batch, dropped []*Job) {
	c := *b
	c.Jobs = nil
	for i, j := range b.Jobs {
		if marked[i] {
			dropped = append(dropped, j)
		} else {
			c.Jobs = append(c.Jobs, j)
		}
	}
	return &c, dropped
}
