package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestACellSaysWhatTheTestsSaid(t *testing.T) {
	t.Parallel()
	const test = "TestTheCore"
	for text, want := range map[string]string{
		"--- PASS: TestTheCore (1.06s)\nPASS":                                              "yes",
		"--- FAIL: TestTheCore (1.06s)\nFAIL":                                              "fails",
		"--- PASS: TestTheCoreOnThreeNodes (9s)\nFAIL":                                     "fails",
		"testing: warning: no tests to run\nPASS":                                          "fails",
		"    x_test.go:1: " + notThere + "needs 2.15\n--- SKIP: TestTheCore (2.27s)\nPASS": "no: needs 2.15",
		"--- SKIP: TestTheCore (0.00s)\nPASS":                                              "not tested",
	} {
		if got := resultOf([]byte(text), test); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestTheTableReplacesTheOldOne(t *testing.T) {
	t.Parallel()
	page := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(page, []byte("above\n"+begin+"| old |\n"+end+"\nbelow\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := update(page, "| new |\n"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(page)
	if want := "above\n" + begin + "| new |\n" + end + "\nbelow\n"; err != nil || string(got) != want {
		t.Errorf("got %q (%v), want %q", got, err, want)
	}
	if err := os.WriteFile(page, []byte("no markers"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := update(page, "| new |\n"); err == nil {
		t.Error("a page without markers was taken")
	}
}

// TestThePageShowsEveryVersion: the table in the docs has the columns and the versions that the
// command tries; the newest is the one of go.mod.
func TestThePageShowsEveryVersion(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/releases.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range versions {
		if !strings.Contains(string(page), "\n| "+strings.TrimPrefix(version, "v")+" | ") {
			t.Errorf("docs/releases.md has no row for %s; run make servers", version)
		}
	}
	for _, c := range checks {
		if !strings.Contains(string(page), "| "+c.title+" |") {
			t.Errorf("docs/releases.md has no column %q; run make servers", c.title)
		}
	}
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if m := regexp.MustCompile(`nats-server/v2 (v\S+)`).FindSubmatch(mod); m == nil || string(m[1]) != versions[len(versions)-1] {
		t.Errorf("go.mod has nats-server %s, the table %s", m, versions[len(versions)-1])
	}
}
