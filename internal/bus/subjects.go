package bus

import (
	"strings"

	"rollcall/internal/jobs"
)

// Streams and the subjects they hold. These names are fixed: people script against them.
const (
	// StreamDone holds completion events and ledger pages.
	StreamDone = "DONE"
	// StreamDead holds dead letters.
	StreamDead = "DEAD"
	// StreamLater holds delayed and repeated jobs until they are due.
	StreamLater = "LATER"

	subjectsDone  = "done.>"
	subjectsDead  = "dead.>"
	subjectsLater = "later.>"
	// subjectsJobs are what the pools of one job stream share; SubjectsDue are the same jobs on
	// their way from LATER.
	subjectsJobs = prefixJobs + ">"
	SubjectsDue  = prefixDue + ">"
	prefixJobs   = "jobs."
	prefixDue    = "due."

	// EventPrefix is what the subject of a stored completion event begins with.
	EventPrefix = "done.batches."
	// republishFrom and republishTo make every committed event a plain NATS message too: events
	// have five tokens, ledger records never.
	republishFrom = "done.*.*.*.*"
	republishTo   = "{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}.{{wildcard(4)}}"
)

// Headers of the server's own message schedules (ADR-51).
const (
	// HeaderSchedule says when.
	HeaderSchedule = "Nats-Schedule"
	// HeaderScheduleTarget says on which subject.
	HeaderScheduleTarget = "Nats-Schedule-Target"
	// HeaderScheduleZone is the time zone of a cron expression.
	HeaderScheduleZone = "Nats-Schedule-Time-Zone"
)

// LaterSubject is where a delayed job waits until it is due.
func LaterSubject(id string) string { return "later." + id }

// ScheduleSubject is where the schedule of a name is kept.
func ScheduleSubject(name string) string { return LaterSubject("cron." + name) }

// DebounceSubject is where the newest delayed job of a key waits.
func DebounceSubject(key string) string { return LaterSubject("debounce." + key) }

// DueSubject returns where the server publishes a delayed job when it is due, so that it
// enters the job stream as subject. It reports false for a subject outside of jobs.>: only
// those can be delayed.
func DueSubject(subject string) (due string, ok bool) {
	rest, ok := strings.CutPrefix(subject, prefixJobs)
	return prefixDue + rest, ok && rest != ""
}

// DelayedSubject is the inverse of [DueSubject]: the subject of a job once it is due.
func DelayedSubject(due string) (subject string, ok bool) {
	rest, ok := strings.CutPrefix(due, prefixDue)
	return prefixJobs + rest, ok && rest != ""
}

// EventSubject is where the completion event of a batch is stored.
func EventSubject(pool string, outcome jobs.BatchOutcome, batchID string) string {
	return EventPrefix + pool + "." + string(outcome) + "." + batchID
}

// SetEventPrefix begins the subject of every stored event of a set.
const SetEventPrefix = "done.sets."

// SetEventSubject is where the event of a set is stored.
func SetEventSubject(pool string, outcome jobs.SetOutcome, set string) string {
	return SetEventPrefix + pool + "." + string(outcome) + "." + set
}

// SetEventsOf matches the stored event of one set, whatever its outcome.
func SetEventsOf(pool, set string) string { return SetEventPrefix + pool + ".*." + set }

// SetOf matches the event of one set as a plain NATS message, once it is committed.
func SetOf(pool, set string) string { return "sets." + pool + ".*." + set }

// EventsFilter matches the stored completion events of a pool, of every pool for "*".
func EventsFilter(pool string) string { return EventPrefix + pool + ".*.*" }

// BatchSubject is the subject on which a completion event is republished once it is committed.
func BatchSubject(pool string, outcome jobs.BatchOutcome, batchID string) string {
	return "batches." + pool + "." + string(outcome) + "." + batchID
}

// BatchesFilter matches what BatchSubject makes for a pool, for every pool with "*".
func BatchesFilter(pool string) string { return "batches." + pool + ".*.*" }

// DeadSubject is where the dead letter of a job goes that was published to subject.
func DeadSubject(pool, subject string) string { return "dead." + pool + "." + subject }

// NextSubject is the JetStream API subject of pull requests.
func (c *Conn) NextSubject(stream, consumer string) string {
	return c.API("CONSUMER.MSG.NEXT." + stream + "." + consumer)
}
