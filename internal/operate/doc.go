// Package operate is what people ask of a pool and do to it: its status, its jobs and dead letters,
// sets and schedules, pause, cancel, drain, and the doctor. The command line calls it.
package operate
