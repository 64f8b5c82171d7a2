package jobs

// Outcome is what became of a job in a batch: the word that stands in events, dead letters,
// reports and metrics. The empty Outcome is none.
type Outcome string

// Every outcome but Retrying is final.
const (
	Retrying  Outcome = "retrying"
	Succeeded Outcome = "succeeded"
	Failed    Outcome = "failed"
	Expired   Outcome = "expired"
	Invalid   Outcome = "invalid"
	// Cancelled means that an operator or a producer said so. There is no dead letter.
	Cancelled Outcome = "cancelled"
)

// String returns the word.
func (o Outcome) String() string { return string(o) }

// Final reports whether the job is done for ever. An outcome of a newer version counts as final.
func (o Outcome) Final() bool { return o != Retrying && o != "" }

// Dead reports whether a job that ended so gets a dead letter.
func (o Outcome) Dead() bool { return o == Failed || o == Expired || o == Invalid }

// Reasons that Rollcall itself gives for a final outcome; others come from services.
const (
	ReasonDeadline  = "deadline"
	ReasonCrashLoop = "crash_loop"
	ReasonCancelled = "cancelled"
)
