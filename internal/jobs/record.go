package jobs

import "slices"

// Record is what the ledger knows of one job. The zero Record is a job never recorded.
type Record struct {
	// Final tells that the job ended in a committed event.
	Final bool
	// Attempts counts the dispatches that were burnt.
	Attempts int
	// Runs counts the batches that ended with a record for this job, burnt or not.
	Runs int
	// Lone counts the runs in a batch of one that were begun and never recorded an end.
	Lone int
	// OK names the services that succeeded for the job, sorted.
	OK []string
}

// Suspicion thresholds of DESIGN rule 6.
const (
	// suspectAfter deliveries without a recorded end make a job run alone.
	suspectAfter = 3
	// maxLone lone runs without a recorded end make it failed.
	maxLone = 3
)

// Suspect reports whether a job delivered this often may be crashing its workers.
func (r Record) Suspect(delivered int) bool { return delivered-r.Runs >= suspectAfter }

// CrashLoop reports whether the job has used up its lone runs.
func (r Record) CrashLoop() bool { return r.Lone >= maxLone }

// HasOK reports whether service is known to have succeeded.
func (r Record) HasOK(service string) bool {
	_, found := slices.BinarySearch(r.OK, service)
	return found
}

// Apply returns the record after one more batch ended with ruling. It adds to what is
// recorded instead of replacing it: two replicas may have worked on the job at once, and
// what either of them learnt stays known.
func (r Record) Apply(ruling *Ruling) Record {
	if ruling.Outcome.Final() {
		return Record{Final: true}
	}
	next := Record{Attempts: r.Attempts, Runs: r.Runs + 1, OK: r.OK}
	if ruling.Burnt {
		next.Attempts++
	}
	for _, service := range ruling.OK {
		if i, found := slices.BinarySearch(next.OK, service); !found {
			next.OK = slices.Insert(slices.Clone(next.OK), i, service)
		}
	}
	return next
}
