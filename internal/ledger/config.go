package ledger

import (
	"time"

	"rollcall/internal/jobs"
)

// Config of a [Ledger].
type Config struct {
	Names
	// TTL returns how long a page of final jobs is kept, counted from the end of the last of
	// them. A page with a job that was tried and is still open has no limit.
	TTL func() time.Duration
	// EventTTL is how long an event is kept; 0 = as long as the stream says.
	EventTTL time.Duration
	// EventSubject is where the completion event of a batch is stored.
	EventSubject func(pool string, outcome jobs.BatchOutcome, batchID string) string
	// Lane is where this replica counts the members of sets, see [Lane].
	Lane string
	// TallyTTL is how long a tally is kept that nobody ends; 0 = for ever.
	TallyTTL time.Duration
	// OnSets is called with the sets that a stored group counted members of; nil = nobody
	// listens. It is called by the committer's goroutine and must not block.
	OnSets func(sets []string)
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
