package app_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/faulttest"
)

// small is a server that takes no more than so many bytes in a message.
func small(maxPayload int32) server.Options { return server.Options{MaxPayload: maxPayload} }

// A dead letter is the job as it came, without what the server would act on, and
// exactly the headers that say what became of it.
func TestADeadLetterIsTheJobAndWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"})
	r.services["billing"].Answer(results(func(faulttest.Asked) map[string]any {
		return map[string]any{"status": "fail", "error": "no such account"}
	}))
	r.send("jobs.mail", "order-42", "\x00not json", "Tenant-Id", "acme", "Nats-Expected-Stream", "JOBS")
	r.start()
	event := r.judge().Events[0]
	letters := r.stored("DEAD")
	if len(letters) != 1 {
		t.Fatalf("%d letters", len(letters))
	}
	m := letters[0]
	if m.Subject != "dead.default.jobs.mail" || string(m.Data) != "\x00not json" {
		t.Errorf("letter on %s: %q", m.Subject, m.Data)
	}
	at := m.Header.Get("Rollcall-Failed-At")
	if _, err := time.Parse(time.RFC3339Nano, at); err != nil {
		t.Error(err)
	}
	uid := event.Data.Jobs[0].UID
	want := map[string][]string{
		"Tenant-Id": {"acme"}, "Nats-Msg-Id": {uid + "." + event.ID},
		"Rollcall-Reason": {"no such account"}, "Rollcall-Outcome": {"failed"}, "Rollcall-Attempts": {"1"},
		"Rollcall-Service": {"billing"}, "Rollcall-Batch": {event.ID}, "Rollcall-Uid": {uid}, "Rollcall-Id": {"order-42"},
		"Rollcall-Subject": {"jobs.mail"}, "Rollcall-Failed-At": {at},
	}
	got := map[string][]string(m.Header)
	for _, added := range []string{"Nats-Sequence", "Nats-Stream", "Nats-Subject", "Nats-Time-Stamp"} {
		delete(got, added) // by the server, to a message that is read directly
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

// TestPagesAreNamedByWhatTheyHold: done.ledger.<pool>.page.<stream>.<epoch>.<page / 256>.<page>,
// sixteen jobs each, with a time to live once all of them are final.
func TestPagesAreNamedByWhatTheyHold(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"}, "ROLLCALL_LEDGER_TTL=1h")
	const skipped = 256*16 - 20 // up to 20 jobs before the second bucket
	stream, err := r.js.Stream(t.Context(), "JOBS")
	if err != nil {
		t.Fatal(err)
	}
	r.load.Publish(skipped, limit)
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.load = faulttest.NewLoad(t, r.js, "JOBS", "jobs.second")
	r.load.Publish(40, limit)
	r.start()
	uid := ends(r.judge())["jobs.second-0"].UID
	epoch, _, _ := strings.Cut(uid, ".")
	var got []string
	for _, m := range r.stored("DONE") {
		if strings.Contains(m.Subject, ".page.") {
			got = append(got, m.Subject)
			if ttl := m.Header.Get("Nats-TTL"); ttl != "1h0m0s" && ttl != "3600" && ttl != "3600s" {
				t.Errorf("%s lives for %q", m.Subject, ttl)
			}
		}
	}
	slices.Sort(got)
	var want []string
	for page := (skipped + 1) / 16; page <= (skipped+40)/16; page++ {
		want = append(want, fmt.Sprintf("done.ledger.default.page.JOBS.%s.%d.%d", epoch, page/256, page))
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Compact(got)); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
}

// A stream made anew while a pool runs numbers its jobs from one again,
// and they are new work although the ledger knows jobs of these numbers.
func TestARecreatedStreamIsNewWorkForARunningPool(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"})
	r.start()
	r.send("jobs.test", "before", "1")
	before := ends(r.judge())["before"]
	if err := r.js.DeleteStream(t.Context(), "JOBS"); err != nil {
		t.Fatal(err)
	}
	r.setup(r.config())
	r.load = faulttest.NewLoad(t, r.js, "JOBS", "jobs.test")
	r.send("jobs.test", "after", "1")
	faulttest.WaitRest(t, r.js, "JOBS", "default", limit)
	events, err := faulttest.Events(t.Context(), r.js)
	if err != nil || len(events) != 2 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	after := events[1].Data.Jobs[0]
	if after.ID != "after" || after.Outcome != "succeeded" || after.UID == before.UID || !strings.HasSuffix(after.UID, ".1") {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if n := callsFor(r.services["billing"], "after"); n != 1 {
		t.Errorf("%d calls", n)
	}
}

// What stands is reported where it differs, and never changed nor deleted.
func TestSetupAndAPoolLeaveWhatStandsAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"})
	ctx := t.Context()
	limited, err := r.js.UpdateStream(ctx, jetstream.StreamConfig{
		Name: "DEAD", Subjects: []string{"dead.>"}, MaxMsgs: 10, MaxAge: time.Hour, Description: "ours",
	})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := r.js.Stream(ctx, "JOBS")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgs = 1000
	if _, err := r.js.UpdateStream(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	plan := r.setup(r.config("ROLLCALL_REPLICAS=3", "ROLLCALL_ACK_WAIT=7s"))
	var harm []string
	for _, d := range plan.Differences {
		harm = append(harm, d.Object+" "+d.Field)
	}
	if len(plan.Created) != 0 || !slices.Contains(harm, "consumer JOBS/default ack_wait") {
		t.Errorf("created %v, reported %v", plan.Created, harm)
	}
	stop := r.start("ROLLCALL_ACK_WAIT=7s")
	r.load.Publish(10, limit)
	r.judge()
	if err := stop(); err != nil {
		t.Error(err)
	}
	dead, err := r.js.Stream(ctx, "DEAD")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(limited.CachedInfo().Config, dead.CachedInfo().Config); diff != "" {
		t.Errorf("DEAD was changed (-before +after):\n%s", diff)
	}
	if now, err := r.js.Stream(ctx, "JOBS"); err != nil || now.CachedInfo().Config.MaxMsgs != 1000 {
		t.Errorf("JOBS was changed: %v", err)
	}
	c, err := r.js.Consumer(ctx, "JOBS", "default")
	if err != nil || c.CachedInfo().Config.AckWait != 30*time.Second {
		t.Errorf("the consumer was changed: %v", err)
	}
}

// Batch ids are UUIDv7, uids and sources of fixed shape.
func TestNamesHaveTheirShape(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"}, "ROLLCALL_POOL=mail_pool-2")
	r.start()
	r.send("jobs.test", "", "1")
	h := r.judge()
	e := h.Events[0]
	for pattern, got := range map[string]string{
		`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`: e.ID,
		`^/rollcall/mail_pool-2$`:        e.Source,
		`^[0-9a-z]+\.1$`:                 e.Data.Jobs[0].UID,
		`^/rollcall/JOBS/[0-9a-z]+$`:     h.Calls[0].Source,
		`^rollcall\.batch\.settled\.v1$`: e.Type,
	} {
		if !regexp.MustCompile(pattern).MatchString(got) {
			t.Errorf("%q is not %s", got, pattern)
		}
	}
	if e.Data.Jobs[0].ID != e.Data.Jobs[0].UID {
		t.Errorf("a job without a name is called %q, want its uid", e.Data.Jobs[0].ID)
	}
}
