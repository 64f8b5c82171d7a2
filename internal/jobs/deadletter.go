package jobs

// DeadLetter is the copy of a job that ended failed, expired or invalid.
type DeadLetter struct {
	Job     *Job
	Ruling  *Ruling
	BatchID string
}

// LettersError reports that the stream of dead letters does not take some letters for now: it is
// full, or missing. The others are stored.
type LettersError struct {
	// Refused has one entry for each letter.
	Refused []bool
	Err     error
}

// Error implements error.
func (e *LettersError) Error() string { return "dead letters cannot be stored: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *LettersError) Unwrap() error { return e.Err }
