package jobs

// Outcome is what became of a job in a batch.
type Outcome uint8

// Every outcome but Retrying is final.
const (
	Retrying Outcome = iota
	Succeeded
	Failed
	Expired
	Invalid
)

var outcomeNames = [...]string{"retrying", "succeeded", "failed", "expired", "invalid"}

// String returns the word that stands in the event.
func (o Outcome) String() string { return outcomeNames[o] }

// Final reports whether the job is done for ever.
func (o Outcome) Final() bool { return o != Retrying }

// Dead reports whether a job that ended so gets a dead letter.
func (o Outcome) Dead() bool { return o == Failed || o == Expired || o == Invalid }

// Reasons that Rollcall itself gives for a final outcome; others come from services.
const (
	ReasonDeadline  = "deadline"
	ReasonCrashLoop = "crash_loop"
)
