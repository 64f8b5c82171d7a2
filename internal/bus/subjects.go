package bus

import "rollcall/internal/jobs"

// Streams and the subjects they hold. These names are fixed: people script against them.
const (
	// StreamDone holds completion events and ledger pages.
	StreamDone = "DONE"
	// StreamDead holds dead letters.
	StreamDead = "DEAD"

	subjectsDone  = "done.>"
	subjectsDead  = "dead.>"
	subjectsLater = "later.>"

	// republishFrom and republishTo make every committed event a plain NATS message too.
	republishFrom = "done.batch.*.*.*"
	republishTo   = "batches.{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}"
)

// LaterSubject is where a delayed job waits until it is due.
func LaterSubject(id string) string { return "later." + id }

// EventSubject is where the completion event of a batch is stored.
func EventSubject(pool string, outcome jobs.BatchOutcome, batchID string) string {
	return "done.batch." + pool + "." + string(outcome) + "." + batchID
}

// EventsFilter matches the stored completion events of a pool, of every pool for "*".
func EventsFilter(pool string) string { return "done.batch." + pool + ".*.*" }

// BatchSubject is where a completion event is told to anyone who listens, once committed.
func BatchSubject(pool string, outcome jobs.BatchOutcome, batchID string) string {
	return "batches." + pool + "." + string(outcome) + "." + batchID
}

// BatchesFilter matches what BatchSubject makes for a pool, for every pool with "*".
func BatchesFilter(pool string) string { return "batches." + pool + ".*.*" }

// DeadSubject is where the dead letter of a job goes that was published to subject.
func DeadSubject(pool, subject string) string { return "dead." + pool + "." + subject }

// NextSubject is the JetStream API subject of pull requests.
func NextSubject(stream, consumer string) string {
	return "$JS.API.CONSUMER.MSG.NEXT." + stream + "." + consumer
}
