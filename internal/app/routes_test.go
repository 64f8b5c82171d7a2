package app_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"rollcall/internal/jobs"
	"rollcall/internal/operate"
)

// TestJobsGoToTheServicesThatTakeThem: by their subject, and by the services that the producer names.
func TestJobsGoToTheServicesThatTakeThem(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"mailer", "index"}, "ROLLCALL_SVC_MAILER_SUBJECTS=jobs.mail.>,jobs.sms", "ROLLCALL_SVC_INDEX_SUBJECTS=jobs.mail.*,jobs.report")
	for id, job := range map[string][2]string{
		"both": {"jobs.mail.a", ""}, "deep": {"jobs.mail.a.b", ""}, "report": {"jobs.report", ""},
		"narrow": {"jobs.mail.b", "mailer"}, "list": {"jobs.mail.c", "mailer, index"},
		"nobody": {"jobs.other", ""}, "unknown": {"jobs.mail.d", "mailer,billing"}, "elsewhere": {"jobs.sms", "index"},
	} {
		var header []string
		if job[1] != "" {
			header = []string{"rollcall-services", job[1]}
		}
		r.send(job[0], id, "1", header...)
	}
	r.start()
	h := r.judge()
	got := ends(h)
	for id, want := range map[string]string{
		"both": "succeeded map[index:ok mailer:ok]", "deep": "succeeded map[mailer:ok]", "report": "succeeded map[index:ok]",
		"narrow": "succeeded map[mailer:ok]", "list": "succeeded map[index:ok mailer:ok]",
		"nobody": "invalid map[]", "unknown": "invalid map[]", "elsewhere": "invalid map[]",
	} {
		if j := got[id]; fmt.Sprint(j.Outcome, " ", j.Services) != want {
			t.Errorf("job %s: %s %v %s, want %s", id, j.Outcome, j.Services, j.Reason, want)
		}
	}
	if !strings.Contains(got["unknown"].Reason, `"billing"`) || !strings.Contains(got["nobody"].Reason, "jobs.other") {
		t.Errorf("reasons %q and %q name neither the service nor the subject", got["unknown"].Reason, got["nobody"].Reason)
	}
	answer, err := r.nc.Request(operate.ReplicaSubject("default", "r1", "status"), nil, limit)
	if err != nil {
		t.Fatal(err)
	}
	var state jobs.ReplicaState
	if err := json.Unmarshal(answer.Data, &state); err != nil || len(state.Services) != 2 {
		t.Fatalf("%v, %+v", err, state)
	}
	for _, s := range state.Services {
		if want := map[string]int{"mailer": 1, "index": 2}[s.Name]; s.Skipped != want {
			t.Errorf("%s was skipped for %d jobs, want %d", s.Name, s.Skipped, want)
		}
	}
	if len(h.DeadLetters) != 3 {
		t.Errorf("dead letters %v, want those of the three that nobody takes", h.DeadLetters)
	}
}
