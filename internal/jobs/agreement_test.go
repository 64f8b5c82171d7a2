package jobs_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"rollcall/internal/jobs"
)

func TestEqualSettingsHaveEqualDigests(t *testing.T) {
	t.Parallel()
	one := map[string]string{"A": "1", "B": "2"}
	if got, want := jobs.DigestSettings(map[string]string{"B": "2", "A": "1"}), jobs.DigestSettings(one); got != want || len(got) != 12 {
		t.Errorf("digests %s and %s of the same settings", got, want)
	}
	// Names and values must not run into each other.
	for _, other := range []map[string]string{{"A": "1", "B": "3"}, {"A": "1"}, {"A": "1", "B": "2", "C": ""}, {"A": "1\"\n\"B\"=\"2"}} {
		if jobs.DigestSettings(other) == jobs.DigestSettings(one) {
			t.Errorf("%v has the digest of %v", other, one)
		}
	}
}

func TestDifferencesNameTheSettingAndWhoHasWhich(t *testing.T) {
	t.Parallel()
	got := jobs.Differences([]jobs.ReplicaState{
		{Replica: "c", Settings: map[string]string{"ROLLCALL_SERVICES": "a=http://a", "ROLLCALL_MAX_ATTEMPTS": "20"}},
		{Replica: "b", Settings: map[string]string{"ROLLCALL_SERVICES": "a=http://a,b=http://b", "ROLLCALL_MAX_ATTEMPTS": "20", "ROLLCALL_SVC_B_TIMEOUT": "1s"}},
		{Replica: "a", Settings: map[string]string{"ROLLCALL_SERVICES": "a=http://a", "ROLLCALL_MAX_ATTEMPTS": "20"}},
		{Replica: "old"},
	})
	want := []jobs.Difference{
		{Setting: "ROLLCALL_SERVICES", Values: []jobs.DifferentValue{{Value: "a=http://a", Replicas: []string{"a", "c"}}, {Value: "a=http://a,b=http://b", Replicas: []string{"b"}}}},
		{Setting: "ROLLCALL_SVC_B_TIMEOUT", Values: []jobs.DifferentValue{{Replicas: []string{"a", "c"}}, {Value: "1s", Replicas: []string{"b"}}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
	if got, want := got[1].String(), "ROLLCALL_SVC_B_TIMEOUT: nothing (a, c), 1s (b)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
