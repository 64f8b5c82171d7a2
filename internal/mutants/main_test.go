package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEveryMutantStillHasItsPlace fails when the code that a bug is planted in has changed.
func TestEveryMutantStillHasItsPlace(t *testing.T) {
	t.Parallel()
	for _, m := range mutants() {
		source, err := os.ReadFile(filepath.Join("..", "..", m.file))
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
			continue
		}
		if n := strings.Count(string(source), m.old); n != 1 {
			t.Errorf("%s: %s has %d places like %q, want 1", m.name, m.file, n, m.old)
		}
	}
}

func TestFirstFailureNamesTheTest(t *testing.T) {
	t.Parallel()
	for out, want := range map[string]string{
		"=== RUN\n    --- FAIL: TestA/b (0.01s)\n": "TestA/b",
		"panic: test timed out after 5m0s\n\tx":    "panic: test timed out after 5m0s",
		"FAIL\n":                                   "the test run",
	} {
		if got := firstFailure([]byte(out)); got != want {
			t.Errorf("firstFailure(%q) = %q, want %q", out, got, want)
		}
	}
}
