package app_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"testing"

	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
	"rollcall/internal/operate"
)

// The word that says why a batch was sealed is in its event.
func TestTheEventSaysWhyItsBatchWasSealed(t *testing.T) {
	t.Parallel()
	tests := map[jobs.Seal][]string{
		jobs.SealSize:   {"ROLLCALL_BATCH_SIZE=3", "ROLLCALL_BATCH_LINGER=20s"},
		jobs.SealBytes:  {"ROLLCALL_BATCH_BYTES=30", "ROLLCALL_BATCH_LINGER=20s"},
		jobs.SealLinger: {"ROLLCALL_BATCH_LINGER=1ms"},
		jobs.SealIdle:   {"ROLLCALL_BATCH_LINGER=0s"},
	}
	for seal, env := range tests {
		t.Run(string(seal), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, []string{"billing"}, env...)
			r.start()
			for range 3 {
				r.send("jobs.test", "", `"10 bytes"`)
			}
			for _, e := range r.judge().Events {
				if e.Data.Seal != seal {
					t.Errorf("sealed by %q", e.Data.Seal)
				}
			}
		})
	}
}

// Jobs are gathered for longer than the lease of a job lasts, and are delivered and called for once.
func TestABatchMayLingerLongerThanALease(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"}, "ROLLCALL_BATCH_LINGER=5s", "ROLLCALL_ACK_WAIT=2s")
	ids := []string{"first", "second", "third"}
	for _, id := range ids {
		r.send("jobs.test", id, "1")
	}
	r.start()
	h := r.judge()
	if len(h.Events) != 1 || h.Events[0].Data.Seal != jobs.SealLinger || h.Events[0].Data.Counts.Succeeded != len(ids) {
		t.Errorf("events: %+v", h.Events)
	}
	for _, id := range ids {
		if n := callsFor(r.services["billing"], id); n != 1 {
			t.Errorf("billing was called %d times for job %s", n, id)
		}
	}
	c, err := r.js.Consumer(t.Context(), "JOBS", "default")
	if err != nil {
		t.Fatal(err)
	}
	if n := c.CachedInfo().Delivered.Consumer; n != uint64(len(ids)) {
		t.Errorf("%d deliveries of %d jobs: leases ran out while jobs were gathered", n, len(ids))
	}
}

// A job that keeps coming back without a recorded end runs alone, and its event says so.
func TestASuspectRunsAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"}, "ROLLCALL_BATCH_SIZE=10")
	r.send("jobs.test", "suspect", "1")
	for range 3 { // taken and not finished, as by workers that die
		m, err := r.nc.Request("$JS.API.CONSUMER.MSG.NEXT.JOBS.default", []byte(`{"batch":1,"group":"replicas"}`), limit)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Nak(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		r.send("jobs.test", fmt.Sprintf("mate %d", i), "1")
	}
	r.start()
	for _, e := range r.judge().Events {
		alone := e.Data.Seal == jobs.SealLone
		if alone != (e.Data.Jobs[0].ID == "suspect") || alone && len(e.Data.Jobs) != 1 {
			t.Errorf("sealed by %s: %+v", e.Data.Seal, e.Data.Jobs)
		}
	}
}

// A stop seals what was gathered, finishes it and leaves nothing behind.
func TestAStopSealsWhatWasGathered(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"}, "ROLLCALL_BATCH_LINGER=20s")
	stop := r.start()
	r.load.Publish(5, limit)
	// The broker has handed them out before they are here, and what is not here is not sealed.
	faulttest.Until(t, limit, "the replica holds the jobs", func() bool {
		answer, err := r.nc.Request(operate.ReplicaSubject("default", "r1", "status"), nil, limit)
		var state jobs.ReplicaState
		return err == nil && json.Unmarshal(answer.Data, &state) == nil && state.HeldJobs == 5
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	events := r.judge().Events
	if len(events) != 1 || events[0].Data.Seal != jobs.SealDrain || events[0].Data.Counts.Succeeded != 5 {
		t.Errorf("%d events, the first: %+v", len(events), events)
	}
}

// One key per batch, read from the subject or from a header in any spelling.
func TestABatchHasOneKey(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]map[string]int{
		"subject":          {"jobs.mail": 6, "jobs.sms": 3},
		"header:Tenant-Id": {"acme": 3, "": 3, "initech": 3},
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, []string{"billing"}, "ROLLCALL_BATCH_KEY="+setting)
			for i := range 3 {
				r.send("jobs.mail", fmt.Sprintf("a%d", i), "1", "tenant-id", "acme")
				r.send("jobs.mail", fmt.Sprintf("b%d", i), "1")
				r.send("jobs.sms", fmt.Sprintf("c%d", i), "1", "Tenant-Id", "initech")
			}
			r.start()
			got := map[string]int{}
			for _, e := range r.judge().Events {
				got[e.Data.Key] += e.Data.Counts.Succeeded
				for _, j := range e.Data.Jobs {
					if setting == "subject" && j.Subject != e.Data.Key {
						t.Errorf("a job of %s in a batch of %s", j.Subject, e.Data.Key)
					}
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("jobs by key %v, want %v", got, want)
			}
		})
	}
}

// Where two jobs of a batch share an id, their uids distinguish them, in both
// directions.
func TestTwoJobsOfABatchMayShareAnID(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing"}, "ROLLCALL_BATCH_SIZE=3", "ROLLCALL_BATCH_LINGER=20s")
	r.services["billing"].Answer(results(func(j faulttest.Asked) map[string]any {
		if string(j.Data) == "2" {
			return map[string]any{"id": j.UID, "status": "fail", "error": "the second"}
		}
		return map[string]any{"id": j.UID, "status": "ok"}
	}))
	// Without a Nats-Msg-Id, the server knows no duplicates of them.
	r.send("jobs.test", "", "1", "ce-id", "twin")
	r.send("jobs.test", "", "2", "ce-id", "twin")
	r.send("jobs.test", "", "3")
	r.start()
	h := r.judge()
	if len(h.Events) != 1 || len(h.Events[0].Data.Jobs) != 3 {
		t.Fatalf("%d events", len(h.Events))
	}
	for i, want := range []jobs.Outcome{jobs.Succeeded, jobs.Failed, jobs.Succeeded} {
		if j := h.Events[0].Data.Jobs[i]; j.Outcome != want {
			t.Errorf("job %d, %s: %s %s, want %s", i+1, j.ID, j.Outcome, j.Reason, want)
		}
	}
}

// The outcome of a batch is in the subject of its event, in words that people
// subscribe to; the rig checks that the stored subject and the event agree.
func TestTheOutcomeOfABatchIsInItsSubject(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		bodies []string
		want   jobs.BatchOutcome
	}{
		"all well":               {[]string{"ok", "ok"}, jobs.BatchSucceeded},
		"none well":              {[]string{"fail", "fail"}, jobs.BatchFailed},
		"mixed":                  {[]string{"ok", "fail"}, jobs.BatchPartial},
		"some come back":         {[]string{"ok", "retry"}, jobs.BatchPartial},
		"none well, some return": {[]string{"fail", "retry"}, jobs.BatchPartial},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, []string{"billing"}, "ROLLCALL_BATCH_SIZE=2", "ROLLCALL_MAX_ATTEMPTS=2")
			r.services["billing"].Answer(results(func(j faulttest.Asked) map[string]any {
				said, err := strconv.Unquote(string(j.Data))
				if err != nil {
					t.Error(err)
				}
				return map[string]any{"status": said}
			}))
			heard, err := r.nc.SubscribeSync("batches.default.*.*")
			if err != nil {
				t.Fatal(err)
			}
			for i, body := range tt.bodies {
				r.send("jobs.test", fmt.Sprintf("j%d", i), strconv.Quote(body))
			}
			r.start()
			first := r.judge().Events[0]
			m, err := heard.NextMsg(limit)
			if err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("batches.default.%s.%s", tt.want, first.ID); m.Subject != want || first.Subject != string(tt.want) {
				t.Errorf("heard %s, the event is %s; want %s", m.Subject, first.Subject, want)
			}
		})
	}
}
