// Package history judges a run of a pool by what it left behind: the jobs that were accepted,
// the completion events and dead letters that were stored, and the calls that the services
// saw. It performs no I/O; the demo and the fault tests feed it and ask for the violations of
// what Rollcall promises:
//
//	lost       an accepted job is final in no event, although the pool is at rest
//	doubled    a job is final in more than one event
//	repeated   an event, or a job within an event, occurs twice
//	unknown    an event or a dead letter names a job that nobody published
//	miscounted the counts of an event differ from its jobs, or its outcome from its counts
//	buried     a job ended badly without a dead letter, or a dead letter without such a job
//	mismatched a call names a job by another source or id than the job has
//	recalled   a service was called for a job after its success, or the job's end, was in the ledger
package history
