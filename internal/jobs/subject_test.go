package jobs_test

import (
	"strings"
	"testing"

	"rollcall/internal/jobs"
)

func TestSubjectCovers(t *testing.T) {
	t.Parallel()
	for pair, want := range map[[2]string]bool{
		{"jobs.>", "jobs.a"}: true, {"jobs.>", "jobs.>"}: true, {"jobs.>", "jobs.*.b"}: true, {">", "jobs.a"}: true,
		{"jobs.*", "jobs.a"}: true, {"jobs.*", "jobs.*"}: true,
		{"jobs.>", "jobs"}: false, {"jobs.*", "jobs.>"}: false, {"jobs.a", "jobs.*"}: false, {"jobs.*", "jobs.a.b"}: false, {"jobs.a.b", "jobs.a"}: false,
	} {
		if got := jobs.SubjectCovers(pair[0], pair[1]); got != want {
			t.Errorf("SubjectCovers(%q, %q) = %v, want %v", pair[0], pair[1], got, want)
		}
	}
}

func TestSubjectsAreChecked(t *testing.T) {
	t.Parallel()
	for subject, want := range map[string]struct{ publish, subscribe bool }{
		"jobs.mail": {true, true}, "a": {true, true}, "jobs.ü": {true, true}, "$JS.API.INFO": {true, true},
		"jobs.>": {false, true}, "jobs.*.a": {false, true}, ">": {false, true}, "a.>.b": {false, false},
		"": {}, "a..b": {}, ".a": {}, "a.": {}, "a b": {}, "a\tb": {}, "a\x7fb": {}, strings.Repeat("a", jobs.MaxSubject+1): {},
	} {
		if err := jobs.CheckSubject(subject); (err == nil) != want.publish {
			t.Errorf("publish to %.20q: %v", subject, err)
		}
		if err := jobs.CheckFilter(subject); (err == nil) != want.subscribe {
			t.Errorf("subscribe to %.20q: %v", subject, err)
		}
	}
}
