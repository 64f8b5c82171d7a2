package main

import (
	"strings"
	"testing"
	"time"
)

func TestAnAgeIsDaysOrADuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"": 0, "30d": 720 * time.Hour, "1d": 24 * time.Hour, "90m": 90 * time.Minute} {
		if got, err := parseAge(text); err != nil || got != want {
			t.Errorf("parseAge(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"d", "-1d", "0d", "1.5d", "soon", "-3h", "4000d"} {
		if got, err := parseAge(text); err == nil {
			t.Errorf("parseAge(%q) = %v, want an error", text, got)
		}
	}
}

// setup --archive makes the stream, and says nothing of it the second time.
func TestSetupMakesTheArchiveOnce(t *testing.T) {
	t.Parallel()
	env := prepared(t)
	for range 2 { // a dry run makes nothing, so the second finds the same
		wants(t, worker(t, env, "setup", "--archive", "30d", "--dry-run"), codeOK, "stream HISTORY", "missing")
	}
	if r := worker(t, env, "setup", "--archive", "30d"); r.code != codeOK || !strings.Contains(r.stdout, "stream HISTORY") {
		t.Errorf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if r := worker(t, env, "setup", "--archive", "30d"); r.code != codeOK || strings.Contains(r.stdout, "HISTORY") {
		t.Errorf("again: exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if r := worker(t, env, "events", "--since", "1h", "--follow=false", "-o", "jsonl"); r.code != codeOK || r.stdout != "" {
		t.Errorf("no events: exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if r := worker(t, env, "setup", "--archive", "1h"); r.code != codeFailed || !strings.Contains(r.stderr, "ROLLCALL_DONE_AGE") {
		t.Errorf("too short: exit %d: %s", r.code, r.stderr)
	}
}
