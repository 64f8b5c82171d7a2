package ledger

import (
	"time"

	"rollcall/internal/jobs"
)

// Config of a [Ledger].
type Config struct {
	Pool string
	// TTL after which a page is removed, counted from its last write.
	TTL time.Duration
	// EventSubject is where the completion event of a batch is stored.
	EventSubject func(pool string, outcome jobs.BatchOutcome, batchID string) string
	// OnGroup is called after each attempt to store a group; nil = nobody listens. It is called
	// by the committer's goroutine and must not block.
	OnGroup func(Group)
}

// Group is one attempt to store waiting batches together.
type Group struct {
	// Batches whose events the group holds.
	Batches int
	Took    time.Duration
	// Err is nil if the group was stored.
	Err error
}
