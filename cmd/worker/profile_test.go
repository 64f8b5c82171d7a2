package main

import (
	"os"
	"path/filepath"
	"testing"
)

// The CPU profile is one per process, so this is one test for all there is to say.
func TestProfilesAreWrittenOnceTheyAreStopped(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made", "on demand")
	stop, err := startProfiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := startProfiles(dir); err == nil {
		t.Error("a second CPU profile at once is no error")
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cpu", "heap", "allocs", "mutex", "block"} {
		if info, err := os.Stat(filepath.Join(dir, name+".pprof")); err != nil || info.Size() == 0 {
			t.Errorf("%s profile: %v, %v", name, info, err)
		}
	}
	file := filepath.Join(dir, "cpu.pprof")
	if _, err := startProfiles(file); err == nil {
		t.Error("a folder that is a file is no error")
	}
}
