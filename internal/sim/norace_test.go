//go:build !race

package sim_test

// defaultSeeds take less than a minute on two cores.
const defaultSeeds = 2000
