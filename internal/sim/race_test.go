//go:build race

package sim_test

// defaultSeeds and manyJobs are lower under the race detector, which takes about eight times as
// long.
const (
	defaultSeeds = 200
	manyJobs     = 500
)
