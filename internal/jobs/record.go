package jobs

import "slices"

// Record is what the ledger knows of one job. The zero Record is a job never recorded.
type Record struct {
	// Final means that the job ended in a committed event.
	Final bool
	// Attempts counts the dispatches that were burnt.
	Attempts int
	// Seen is the delivery up to which every end is accounted for. Deliveries beyond it ended
	// without a word: their process crashed, or was cut off from the broker.
	Seen int
	// Since is the last delivery in which something was learnt of the job. Those beyond it only
	// waited for a service.
	Since int
	// Lone counts the runs in a batch of one that were begun and never recorded an end.
	Lone int
	// Group is how many jobs the next call for this one may hold; 0 = as many as there are.
	Group int
	// OK names the services that succeeded for the job, sorted.
	OK []string
}

const (
	// suspectAfter deliveries without a recorded end make a job suspect: it may be crashing its
	// workers, or may have shared a process with one that does.
	suspectAfter = 3
	// maxLone lone runs without a recorded end make it failed.
	maxLone = 3
	// maxCredit bounds how many deliveries are accounted for in advance, see [Record.Credit].
	maxCredit = 8
)

// Suspect reports whether a job delivered this often may be crashing its workers.
func (r Record) Suspect(delivered int) bool { return delivered-r.Seen >= suspectAfter }

// CrashLoop reports whether the job has used up its lone runs.
func (r Record) CrashLoop() bool { return r.Lone >= maxLone }

// HasOK reports whether service is known to have succeeded.
func (r Record) HasOK(service string) bool {
	_, found := slices.BinarySearch(r.OK, service)
	return found
}

// Waits returns how many deliveries in a row, with this one, taught nothing: at least 1.
func (r Record) Waits(delivered int) int { return max(delivered-r.Since, 1) }

// Credit returns what Seen has to become after a delivery that taught nothing, so that the job is
// not suspect when it comes again, and whether that has to be recorded at all. It accounts for
// some deliveries in advance, more the longer the job waits: an outage of a service then costs
// few writes.
func (r Record) Credit(delivered int) (seen int, due bool) {
	if !r.Suspect(delivered + 1) {
		return r.Seen, false
	}
	return delivered + min(r.Waits(delivered), maxCredit), true
}

// Apply returns the record after one more batch ended with ruling. It adds to what is
// recorded instead of replacing it: two replicas may have worked on the job at once, and
// what either of them learnt stays known.
func (r Record) Apply(ruling *Ruling) Record {
	if ruling.Outcome.Final() {
		return Record{Final: true}
	}
	since := max(r.Since, ruling.Delivered)
	next := Record{Attempts: r.Attempts, Seen: since, Since: since, Lone: ruling.Lone, Group: ruling.Group, OK: r.OK}
	if ruling.Burnt {
		next.Attempts++
	}
	next.OK = union(next.OK, ruling.OK)
	return next
}

// union adds services to a sorted list, which is left alone.
func union(sorted, services []string) []string {
	for _, service := range services {
		if i, found := slices.BinarySearch(sorted, service); !found {
			sorted = slices.Insert(slices.Clone(sorted), i, service)
		}
	}
	return sorted
}

// Merge returns what either of two records of an open job knows.
func (r Record) Merge(o Record) Record {
	r.Attempts, r.Seen, r.Since = max(r.Attempts, o.Attempts), max(r.Seen, o.Seen), max(r.Since, o.Since)
	r.Lone, r.OK = max(r.Lone, o.Lone), union(r.OK, o.OK)
	return r
}

// Mark is a change to the record of an open job that comes without an event. Writing it twice
// is harmless.
type Mark struct {
	Ref Ref
	// Seen replaces that of the record where it is higher.
	Seen int
	// Lone and Group replace those of the record.
	Lone, Group int
}

// Apply returns the record after the mark.
func (m Mark) Apply(r Record) Record {
	r.Seen = max(r.Seen, m.Seen)
	r.Lone, r.Group = m.Lone, m.Group
	return r
}
