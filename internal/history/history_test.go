package history_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"rollcall/internal/history"
	"rollcall/internal/jobs"
)

const source = "/rollcall/JOBS/e1"

var start = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// event builds a stored event whose counts and outcome fit its jobs.
func event(id string, stored time.Time, entries ...jobs.EventJob) history.Event {
	rulings := make([]jobs.Ruling, len(entries))
	for i := range entries {
		rulings[i].Outcome = entries[i].Outcome
	}
	counts := jobs.Count(rulings)
	return history.Event{Stored: stored, Event: jobs.Event{
		ID: id, Subject: string(counts.Outcome()),
		Data: jobs.EventData{BatchID: id, Outcome: counts.Outcome(), Counts: counts, Jobs: entries},
	}}
}

func entry(n int, outcome jobs.Outcome, services map[string]string) jobs.EventJob {
	return jobs.EventJob{UID: uid(n), ID: fmt.Sprintf("job-%d", n), Outcome: outcome, Services: services}
}

func uid(n int) string { return fmt.Sprintf("e1.%d", n) }

func call(n int, service string, received time.Time) history.Call {
	return history.Call{Service: service, UID: uid(n), ID: fmt.Sprintf("job-%d", n), Source: source, Received: received}
}

// good is a run without a fault: job 1 succeeded, job 2 succeeded on its second attempt, which
// called only the service that was missing, job 3 failed.
func good() *history.History {
	h := &history.History{AtRest: true, Calm: true, DeadLetters: []string{uid(3)}}
	for n := 1; n <= 3; n++ {
		h.Accepted = append(h.Accepted, history.Job{UID: uid(n), ID: fmt.Sprintf("job-%d", n), Source: source})
	}
	both := map[string]string{"a": "ok", "b": "ok"}
	h.Events = []history.Event{
		event("b1", start.Add(time.Second), entry(1, jobs.Succeeded, both), entry(2, jobs.Retrying, map[string]string{"a": "ok", "b": "retry"})),
		event("b2", start.Add(2*time.Second), entry(2, jobs.Succeeded, both)),
		event("b3", start.Add(2*time.Second), entry(3, jobs.Failed, map[string]string{"a": "ok", "b": "fail"})),
	}
	for n := 1; n <= 3; n++ {
		h.Calls = append(h.Calls, call(n, "a", start), call(n, "b", start))
	}
	h.Calls = append(h.Calls, call(2, "b", start.Add(1500*time.Millisecond)))
	return h
}

func TestAGoodRunHasNoViolations(t *testing.T) {
	t.Parallel()
	if got := good().Violations(); len(got) != 0 {
		t.Errorf("got %v, want none", got)
	}
}

func TestEveryPlantedViolationIsFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		plant func(*history.History)
		want  history.Rule
		uid   string
	}{
		"job final in no event":   {func(h *history.History) { h.Events = h.Events[:1] }, history.Lost, uid(2)},
		"job final in two events": {func(h *history.History) { h.Events = append(h.Events, event("b4", start, entry(1, jobs.Failed, nil))) }, history.Doubled, uid(1)},
		"event stored twice":      {func(h *history.History) { h.Events = append(h.Events, event("b1", start)) }, history.Repeated, ""},
		"job listed twice": {func(h *history.History) {
			h.Events[0] = event("b1", start, entry(1, jobs.Succeeded, nil), entry(1, jobs.Retrying, nil))
		}, history.Repeated, uid(1)},
		"event of an unknown job": {func(h *history.History) {
			h.Events = append(h.Events, event("b4", start, entry(9, jobs.Succeeded, nil)))
		}, history.Unknown, uid(9)},
		"counts do not add up":       {func(h *history.History) { h.Events[0].Data.Counts.Retrying = 0 }, history.Miscounted, ""},
		"outcome that is not one":    {func(h *history.History) { h.Events[1].Data.Jobs[0].Outcome = "done" }, history.Miscounted, uid(2)},
		"outcome unlike the counts":  {func(h *history.History) { h.Events[2].Data.Outcome = jobs.BatchPartial }, history.Miscounted, ""},
		"subject unlike the counts":  {func(h *history.History) { h.Events[2].Subject = "partial" }, history.Miscounted, ""},
		"failed without a letter":    {func(h *history.History) { h.DeadLetters = nil }, history.Buried, uid(3)},
		"letter of a job done well":  {func(h *history.History) { h.DeadLetters = append(h.DeadLetters, uid(1)) }, history.Buried, uid(1)},
		"two letters":                {func(h *history.History) { h.DeadLetters = append(h.DeadLetters, uid(3)) }, history.Buried, uid(3)},
		"letter of an unknown job":   {func(h *history.History) { h.DeadLetters = append(h.DeadLetters, uid(9)) }, history.Unknown, uid(9)},
		"call for an unknown job":    {func(h *history.History) { h.Calls = append(h.Calls, call(9, "a", start)) }, history.Unknown, uid(9)},
		"call with another id":       {func(h *history.History) { h.Calls[0].ID = "x" }, history.Mismatched, uid(1)},
		"call with another source":   {func(h *history.History) { h.Calls[0].Source = "/rollcall/JOBS/e2" }, history.Mismatched, uid(1)},
		"called after a final end":   {func(h *history.History) { h.Calls = append(h.Calls, call(1, "a", start.Add(3*time.Second))) }, history.Recalled, uid(1)},
		"called after it had failed": {func(h *history.History) { h.Calls = append(h.Calls, call(3, "b", start.Add(3*time.Second))) }, history.Recalled, uid(3)},
		"called after its success":   {func(h *history.History) { h.Calls = append(h.Calls, call(2, "a", start.Add(1500*time.Millisecond))) }, history.Recalled, uid(2)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := good()
			c.plant(h)
			if got := h.Violations(); !slices.ContainsFunc(got, func(v history.Violation) bool { return v.Rule == c.want && v.UID == c.uid }) {
				t.Errorf("got %v, want a violation of %q for %q", got, c.want, c.uid)
			}
		})
	}
}

func TestAPoolStillAtWorkHasLostNothing(t *testing.T) {
	t.Parallel()
	h := good()
	h.Events, h.DeadLetters, h.AtRest = h.Events[:1], nil, false
	if got := h.Violations(); len(got) != 0 {
		t.Errorf("got %v, want none", got)
	}
}

func TestACrashMayLeaveDeadLettersBehind(t *testing.T) {
	t.Parallel()
	h := good()
	h.DeadLetters, h.Calm = append(h.DeadLetters, uid(3), uid(1)), false
	if got := h.Violations(); len(got) != 0 {
		t.Errorf("got %v, want none: letters are published before the commit they belong to", got)
	}
}

func TestAZombiesCallIsForgivenWithinTheGrace(t *testing.T) {
	t.Parallel()
	h := good()
	h.Calls = append(h.Calls, call(1, "a", start.Add(3*time.Second)))
	h.Grace = 2 * time.Second
	if got := h.Violations(); len(got) != 0 {
		t.Errorf("got %v, want none: the call came 2 s after the success was stored", got)
	}
}

func TestACallThatFailedAsAWholeMayBeRepeated(t *testing.T) {
	t.Parallel()
	h := good()
	h.Calls = append(h.Calls, call(2, "b", start.Add(time.Second+time.Millisecond)))
	if got := h.Violations(); len(got) != 0 {
		t.Errorf("got %v, want none: b had not succeeded for the job yet", got)
	}
}

func TestAPlainRequestNeedsNoIDAndNoSource(t *testing.T) {
	t.Parallel()
	h := good()
	h.Calls[0].ID, h.Calls[0].Source, h.Calls[0].Bare = "", "", true
	if got := h.Violations(); len(got) != 0 {
		t.Errorf("got %v, want none", got)
	}
}

func ExampleHistory_Violations() {
	h := history.History{AtRest: true, Accepted: []history.Job{{UID: "e1.1", ID: "mail-7"}}}
	for _, v := range h.Violations() {
		fmt.Println(v)
	}
	// Output:
	// lost: job e1.1: published as "mail-7" and final in no event
}
