//go:build race

package sim_test

// defaultSeeds is lower under the race detector, which takes about eight times as long.
const defaultSeeds = 200
