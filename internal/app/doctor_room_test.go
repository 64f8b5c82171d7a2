package app_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/faulttest"
	"rollcall/internal/operate"
)

// What cannot take any more is said as it is now, whatever the forecast.
func TestDoctorNamesStreamsThatAreFull(t *testing.T) {
	t.Parallel()
	s := monitored(t, unchanged)
	env := []string{
		"NATS_URL=" + s.ClientURL(), "ROLLCALL_SERVICES=" + listening(t),
		"ROLLCALL_STREAM_BYTES=64KiB", "ROLLCALL_DONE_BYTES=64KiB", "ROLLCALL_DEAD_BYTES=64KiB", "ROLLCALL_LATER_BYTES=64KiB",
	}
	setUp(t, env...)
	found, err := examine(t, monitorURL(s), env...)
	if err != nil {
		t.Fatal(err)
	}
	for check := range found {
		if check == "stream DONE full" || check == "stream DEAD full" || check == "stream JOBS full" {
			t.Errorf("an empty stream is called full: %+v", found[check])
		}
	}
	js := faulttest.JetStream(t, faulttest.Connect(t, s.ClientURL()))
	for i := range 100 {
		for _, subject := range []string{"jobs.test", fmt.Sprint("done.batches.default.succeeded.", i), "dead.default.jobs.test"} {
			_, _ = js.Publish(t.Context(), subject, make([]byte, 1000)) // refused once full
		}
	}
	if found, err = examine(t, monitorURL(s), env...); err != nil {
		t.Fatal(err)
	}
	expect(t, found, "stream JOBS full", operate.Risky, "producers are told")
	expect(t, found, "stream DONE full", operate.Broken, "commits wait")
	expect(t, found, "stream DONE full", operate.Broken, "nats stream edit DONE --max-bytes=128KiB")
	expect(t, found, "stream DEAD full", operate.Risky, "the oldest dead letters are deleted")
	if f, told := found["stream LATER full"]; told {
		t.Errorf("an empty stream is called full: %+v", f)
	}
	done := found["stream DONE full"]
	webhooks := append(env, "ROLLCALL_POOL=webhooks", "ROLLCALL_STREAM=DONE", "ROLLCALL_START=all", "ROLLCALL_SUBJECTS=done.batches.default.>")
	setUp(t, webhooks...)
	if found, err = examine(t, monitorURL(s), webhooks...); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(done, found["stream DONE full"]); diff != "" {
		t.Errorf("to a pool that takes events for its jobs:\n%s", diff)
	}
}

// A job on a subject that no service takes ends as invalid.
func TestDoctorNamesSubjectsThatNoServiceTakes(t *testing.T) {
	t.Parallel()
	s := monitored(t, unchanged)
	js := faulttest.JetStream(t, faulttest.Connect(t, s.ClientURL()))
	examined := func(more ...string) map[string]operate.Finding {
		env := append([]string{"NATS_URL=" + s.ClientURL(), "ROLLCALL_SERVICES=" + listening(t), "ROLLCALL_SUBJECTS=jobs.mail.>,jobs.report"}, more...)
		setUp(t, env...)
		found, err := examine(t, monitorURL(s), env...)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	for _, all := range [][]string{nil, {"ROLLCALL_SVC_BILLING_SUBJECTS=jobs.mail.>,jobs.*"}} {
		if f, told := examined(all...)["routes"]; told {
			t.Errorf("every subject is taken, and it says %+v", f)
		}
	}
	expect(t, examined("ROLLCALL_SVC_BILLING_SUBJECTS=jobs.mail.eu"), "routes", operate.Risky, "no service takes jobs.report:")
	some := "ROLLCALL_SVC_BILLING_SUBJECTS=jobs.mail.eu,jobs.report"
	expect(t, examined(some), "routes", operate.Well, "another subject of jobs.mail.> ends as invalid")
	for n := range 7 {
		if _, err := js.Publish(t.Context(), fmt.Sprint("jobs.mail.us.", n), nil); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, examined(some), "routes", operate.Risky, "no service takes jobs.mail.us.0, jobs.mail.us.1, jobs.mail.us.2, jobs.mail.us.3, jobs.mail.us.4 and 2 more: ")
}

// A stream of others deletes by age, whether this pool is done or not.
func TestDoctorWarnsWhenTheBacklogMayOutliveItsStream(t *testing.T) {
	t.Parallel()
	s := monitored(t, unchanged)
	js := faulttest.JetStream(t, faulttest.Connect(t, s.ClientURL()))
	config := jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}, MaxAge: time.Hour}
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "orders.paid", nil); err != nil {
		t.Fatal(err)
	}
	env := []string{
		"NATS_URL=" + s.ClientURL(), "ROLLCALL_SERVICES=" + listening(t),
		"ROLLCALL_STREAM=ORDERS", "ROLLCALL_SUBJECTS=orders.>", "ROLLCALL_START=all",
	}
	setUp(t, env...)
	found, err := examine(t, monitorURL(s), env...)
	if err != nil {
		t.Fatal(err)
	}
	if f, told := found["backlog age"]; told {
		t.Errorf("a fresh job is called old: %+v", f)
	}
	config.MaxAge, config.Duplicates = 10*time.Second, 10*time.Second
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	faulttest.Until(t, limit, "the doctor warns before the job is deleted", func() bool {
		found, err = examine(t, monitorURL(s), env...)
		_, told := found["backlog age"]
		return err != nil || told
	})
	expect(t, found, "backlog age", operate.Risky, "nats stream edit ORDERS --max-age=20s")
}

// A queue with schedules loses them where another stream sources it.
func TestDoctorObjectsToASourcedQueueWithSchedules(t *testing.T) {
	t.Parallel()
	s := monitored(t, func(*server.Options) {})
	js := faulttest.JetStream(t, faulttest.Connect(t, s.ClientURL()))
	env := []string{
		"NATS_URL=" + s.ClientURL(), "ROLLCALL_SERVICES=" + listening(t), "ROLLCALL_STREAM=QUEUE", "ROLLCALL_SUBJECTS=tasks.>",
	}
	queue := jetstream.StreamConfig{
		Name: "QUEUE", Subjects: []string{"tasks.>", "later.tasks.>"}, Retention: jetstream.WorkQueuePolicy,
		AllowMsgSchedules: true, AllowRollup: true, AllowMsgTTL: true,
	}
	if _, err := js.CreateStream(t.Context(), queue); err != nil {
		t.Fatal(err)
	}
	setUp(t, env...)
	if found, err := examine(t, monitorURL(s), env...); err != nil || found["schedules of QUEUE"].Check != "" {
		t.Errorf("a queue that nobody sources: %+v, %v", found["schedules of QUEUE"], err)
	}
	copied := jetstream.StreamConfig{Name: "COPY", Sources: []*jetstream.StreamSource{{Name: "QUEUE", FilterSubject: "tasks.copied"}}}
	if _, err := js.CreateStream(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	found, err := examine(t, monitorURL(s), env...)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, found, "schedules of QUEUE", operate.Risky, "COPY")
}
