package jobs

// Occurrence names something countable that an operator wants to know of.
type Occurrence uint8

// Occurrences that are counted besides batches and calls.
const (
	// Received deliveries.
	Received Occurrence = iota
	// Redelivered: received with a delivery count above 1.
	Redelivered
	// DuplicateRedelivered: found final in the ledger and acked without a call.
	DuplicateRedelivered
	// DuplicateHeld: a second delivery of a job this replica already holds.
	DuplicateHeld
	// DuplicateLost: another replica's commit was first.
	DuplicateLost
	// CommitRefused: a batch had to be rebuilt after a conflict.
	CommitRefused
	// DeadLettered jobs.
	DeadLettered
	// Unburied: failed jobs that wait, because their dead letters cannot be stored.
	Unburied
	// HandedBack: nak'd unstarted, by a drain.
	HandedBack
	// LeaseLost: given up because the broker could not be reached for longer than the lease.
	LeaseLost
	// Panics recovered in calls.
	Panics
	// LoneRuns: calls for groups of suspects.
	LoneRuns
	// CrashLoops ended.
	CrashLoops
	// Waited: given back because nothing could be learnt of them, a service holds them back.
	Waited
	// Skipped: not sent to a service that they are not routed to.
	Skipped
)
