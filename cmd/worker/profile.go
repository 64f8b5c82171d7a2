package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
)

// Sampling of what `make profile` looks at: dense enough for a run of a second, and too
// costly for anything else, so that nothing of it is on without the flag.
const (
	mutexFraction = 5         // one contention in five
	blockRate     = 10 * 1000 // one sample for each 10 µs of waiting
)

// startProfiles begins to record profiles of this process. The returned function writes them
// to dir: cpu, heap, allocs, mutex and block, each as <name>.pprof.
func startProfiles(dir string) (stop func() error, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder for profiles: %w", err)
	}
	cpu, err := os.Create(filepath.Join(dir, "cpu.pprof"))
	if err != nil {
		return nil, fmt.Errorf("create the CPU profile: %w", err)
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, fmt.Errorf("start the CPU profile: %w", errors.Join(err, cpu.Close()))
	}
	runtime.SetMutexProfileFraction(mutexFraction)
	runtime.SetBlockProfileRate(blockRate)
	return func() error {
		pprof.StopCPUProfile()
		errs := []error{cpu.Close()}
		runtime.GC() // the heap profile is that of the last collection
		for _, name := range []string{"heap", "allocs", "mutex", "block"} {
			errs = append(errs, writeProfile(dir, name))
		}
		return errors.Join(errs...)
	}, nil
}

func writeProfile(dir, name string) error {
	f, err := os.Create(filepath.Join(dir, name+".pprof"))
	if err != nil {
		return fmt.Errorf("create the %s profile: %w", name, err)
	}
	if err := pprof.Lookup(name).WriteTo(f, 0); err != nil {
		return fmt.Errorf("write the %s profile: %w", name, errors.Join(err, f.Close()))
	}
	return f.Close()
}
