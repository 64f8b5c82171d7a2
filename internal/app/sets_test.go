package app_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
)

// TestASetEndsInOneEvent: three replicas share the members, some of which fail, are unreadable or
// expire; whoever is last ends the set, and listeners hear of it.
func TestASetEndsInOneEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"}, "ROLLCALL_BATCH_SIZE=10")
	r.services["billing"].Answer(faulttest.Each(func(a faulttest.Asked) string {
		if a.ID == "row-7" {
			return "fail"
		}
		return "ok"
	}))
	heard, err := r.nc.SubscribeSync("sets.default.>")
	if err != nil {
		t.Fatal(err)
	}
	const size = 200
	for n := range size {
		headers := []string{"Rollcall-Set", "import-7"}
		switch n {
		case 0:
			headers = append(headers, "Rollcall-Set-Size", fmt.Sprint(size))
		case 11:
			headers = append(headers, "Rollcall-Deadline", "soon") // unreadable: the member is invalid
		case 13:
			headers = append(headers, "Rollcall-Deadline", "2001-01-01T00:00:00Z")
		}
		r.send("jobs.test", fmt.Sprintf("row-%d", n), "{}", headers...)
	}
	for range 3 {
		r.start()
	}
	m, err := heard.NextMsg(limit)
	if err != nil {
		t.Fatal(err)
	}
	event, err := jobs.DecodeSetEvent(m.Data)
	if err != nil {
		t.Fatal(err)
	}
	want := jobs.SetCounts{Total: size, Succeeded: size - 3, Failed: 1, Invalid: 1, Expired: 1}
	if diff := cmp.Diff(want, event.Data.Counts); diff != "" || m.Subject != "sets.default.partial.import-7" || event.Data.Truncated {
		t.Errorf("%s: %+v (-want +got):\n%s", m.Subject, event.Data, diff)
	}
	if got := m.Header.Get("Content-Type"); got != jobs.MediaEvent {
		t.Errorf("content type %q", got)
	}
	stored, err := r.lastDone("done.sets.default.partial.import-7")
	if err != nil || string(stored.Data) != string(m.Data) || stored.Header.Get("Nats-TTL") == "" {
		t.Errorf("stored: %v, %v; want what was heard, with a TTL", stored, err)
	}
	if again, err := heard.NextMsg(6 * time.Second); err == nil {
		t.Errorf("a second event: %s %s", again.Subject, again.Data)
	}
	for id, j := range ends(r.judge()) {
		if j.Set != "import-7" {
			t.Errorf("the event of %s names the set %q", id, j.Set)
		}
	}
}

// lastDone returns the last message on a subject of DONE.
func (r *rig) lastDone(subject string) (*nats.Msg, error) {
	r.t.Helper()
	done, err := r.js.Stream(r.t.Context(), "DONE")
	if err != nil {
		return nil, err
	}
	m, err := done.GetLastMsgForSubject(r.t.Context(), subject)
	if err != nil {
		return nil, err
	}
	return &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data}, nil
}

// TestManySmallSetsEndTogether: two thousand sets of one end in few atomic publishes, each of which
// costs the broker about the same whatever it holds.
func TestManySmallSetsEndTogether(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"})
	const sets = 2000
	heard, err := r.nc.SubscribeSync("sets.default.succeeded.*")
	if err != nil {
		t.Fatal(err)
	}
	if err := heard.SetPendingLimits(-1, -1); err != nil {
		t.Fatal(err)
	}
	for n := range sets {
		m := nats.NewMsg("jobs.test")
		m.Header.Set("Rollcall-Set", fmt.Sprintf("one-%d", n))
		m.Header.Set("Rollcall-Set-Size", "1")
		if _, err := r.js.PublishMsgAsync(m); err != nil {
			t.Fatal(err)
		}
	}
	<-r.js.PublishAsyncComplete()
	r.start()
	ended, publishes := map[string]int{}, map[string]bool{}
	for range sets {
		m, err := heard.NextMsg(limit)
		if err != nil {
			t.Fatalf("after %d sets: %v", len(ended), err)
		}
		ended[m.Subject]++
		publishes[m.Header.Get("Nats-Batch-Id")] = true
	}
	if len(ended) != sets {
		t.Errorf("%d sets have ended, want %d once each", len(ended), sets)
	}
	if len(publishes) > sets/2 { // a machine that crawls groups fewer; one by one they are as many as the sets
		t.Errorf("%d sets ended in %d atomic publishes, want at most %d", sets, len(publishes), sets/2)
	}
	t.Logf("%d sets ended in %d atomic publishes", sets, len(publishes))
}
