package jobs

// DeadLetter is the copy of a job that ended failed, expired or invalid.
type DeadLetter struct {
	Job     *Job
	Ruling  *Ruling
	BatchID string
}
