//go:build !race

package sim_test

// These take less than a minute each on two cores.
const (
	defaultSeeds = 2000
	// manyJobs wait for a service that is away.
	manyJobs = 5000
)
