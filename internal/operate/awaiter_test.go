package operate_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"rollcall/internal/jobs"
	"rollcall/internal/operate"
)

// event makes a stored event that lists jobs as "uid id outcome".
func event(t *testing.T, entries ...string) operate.Event {
	t.Helper()
	e := jobs.Event{Type: jobs.EventType, ID: "b", Data: jobs.EventData{BatchID: "b"}}
	for _, entry := range entries {
		words := strings.Fields(entry)
		e.Data.Jobs = append(e.Data.Jobs, jobs.EventJob{UID: words[0], ID: words[1], Outcome: jobs.Outcome(words[2])})
	}
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return operate.Event{BatchID: "b", Data: data}
}

// awaiting returns an awaiter, and the uids of the jobs that it has reported.
func awaiting(byID bool) (operate.Awaiter, *[]string) {
	var uids []string
	return operate.NewAwaiter(byID, func(o operate.JobOutcome) error {
		uids = append(uids, o.UID)
		return nil
	}), &uids
}

func hear(t *testing.T, a operate.Awaiter, e operate.Event) {
	t.Helper()
	if err := a.Hear(e); err != nil {
		t.Fatal(err)
	}
}

func TestAnOutcomeMayBeKnownBeforeItsReceipt(t *testing.T) {
	t.Parallel()
	a, out := awaiting(false)
	hear(t, a, event(t, "e.1 a succeeded", "e.9 other succeeded"))
	a.Expect("e.1", "a")
	a.SetComplete()
	if !a.Done() || len(*out) != 1 || !slices.Contains(*out, "e.1") {
		t.Errorf("done %t, reported %v", a.Done(), *out)
	}
}

func TestOutcomesOfOthersAreForgotten(t *testing.T) {
	t.Parallel()
	a, out := awaiting(false)
	const each = 1000
	for n := range 3 * operate.MaxEarly / each {
		var others []string
		for i := range each {
			others = append(others, fmt.Sprintf("other.%d x succeeded", n*each+i))
		}
		hear(t, a, event(t, others...))
	}
	if n := a.Kept(); n > 2*operate.MaxEarly {
		t.Errorf("%d outcomes of other producers' jobs are kept, want at most %d", n, 2*operate.MaxEarly)
	}
	hear(t, a, event(t, "e.1 a succeeded"))
	a.Expect("e.1", "a")
	if !slices.Contains(*out, "e.1") {
		t.Errorf("the last outcome was forgotten, reported %v", *out)
	}
}

func TestARetryIsNoOutcome(t *testing.T) {
	t.Parallel()
	a, out := awaiting(false)
	a.Expect("e.1", "a")
	a.SetComplete()
	hear(t, a, event(t, "e.1 a retrying"))
	if a.Done() || len(*out) > 0 {
		t.Errorf("done %t, reported %v", a.Done(), *out)
	}
	hear(t, a, event(t, "e.1 a failed", "e.2 b succeeded"))
	if !a.Done() || len(*out) != 1 {
		t.Errorf("done %t, reported %v", a.Done(), *out)
	}
	if err := a.Result(1, nil); err == nil || !strings.Contains(err.Error(), "1 of 1 jobs did not succeed") {
		t.Errorf("got %v", err)
	}
}

func TestItIsNotOverBeforeEveryJobIsKnown(t *testing.T) {
	t.Parallel()
	a, _ := awaiting(false)
	a.Expect("e.1", "")
	hear(t, a, event(t, "e.1 a succeeded"))
	if a.Done() {
		t.Error("over, although more jobs may be published")
	}
	a.SetComplete()
	a.SetComplete()
	if !a.Done() {
		t.Error("not over, although every job has its outcome")
	}
}

func TestADelayedJobIsKnownByItsID(t *testing.T) {
	t.Parallel()
	a, out := awaiting(true)
	a.Expect("e.1", "a")
	a.SetComplete()
	hear(t, a, event(t, "e.7 a succeeded"))
	if !a.Done() || !slices.Contains(*out, "e.7") {
		t.Errorf("done %t, reported %v", a.Done(), *out)
	}
}

func TestTheResultNamesJobsWithoutAnOutcome(t *testing.T) {
	t.Parallel()
	a, _ := awaiting(false)
	a.Expect("e.1", "")
	a.Expect("e.2", "")
	hear(t, a, event(t, "e.2 b succeeded"))
	if err := a.Result(2, operate.ErrTimeout); !errors.Is(err, operate.ErrTimeout) || !strings.Contains(err.Error(), "1 of 2 jobs have no outcome yet, among them e.1") {
		t.Errorf("got %v", err)
	}
}

func TestAnUnreadableEventEndsTheWait(t *testing.T) {
	t.Parallel()
	a, _ := awaiting(false)
	if err := a.Hear(operate.Event{BatchID: "b7", Data: []byte("{")}); err == nil || !strings.Contains(err.Error(), "b7") {
		t.Errorf("got %v, want an error that names the event", err)
	}
}
