package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"rollcall/internal/jobs"
	"rollcall/internal/operate"
	"rollcall/internal/table"
)

// told makes a stored event that lists jobs as "uid id outcome".
func told(t *testing.T, entries ...string) operate.Event {
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

func awaiting(byID bool) (*awaiter, *bytes.Buffer) {
	var out bytes.Buffer
	return newAwaiter(&cli{stdout: &out, output: table.JSONL}, byID), &out
}

func hear(t *testing.T, a *awaiter, e operate.Event) {
	t.Helper()
	if err := a.settle(e); err != nil {
		t.Fatal(err)
	}
}

func isDone(a *awaiter) bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

func TestAnOutcomeMayBeKnownBeforeItsReceipt(t *testing.T) {
	t.Parallel()
	a, out := awaiting(false)
	hear(t, a, told(t, "e.1 a succeeded", "e.9 other succeeded"))
	a.expect(receipt{UID: "e.1", ID: "a"})
	a.seal()
	if !isDone(a) || strings.Count(out.String(), "\n") != 1 || !strings.Contains(out.String(), `"e.1"`) {
		t.Errorf("done %t, printed %s", isDone(a), out)
	}
}

func TestOutcomesOfOthersAreForgotten(t *testing.T) {
	t.Parallel()
	a, out := awaiting(false)
	const each = 1000
	for n := range 3 * maxEarly / each {
		var others []string
		for i := range each {
			others = append(others, fmt.Sprintf("other.%d x succeeded", n*each+i))
		}
		hear(t, a, told(t, others...))
	}
	if n := len(a.early) + len(a.earlier); n > 2*maxEarly {
		t.Errorf("%d outcomes of other producers' jobs are kept, want at most %d", n, 2*maxEarly)
	}
	hear(t, a, told(t, "e.1 a succeeded"))
	a.expect(receipt{UID: "e.1", ID: "a"})
	if !strings.Contains(out.String(), `"e.1"`) {
		t.Errorf("the last outcome was forgotten, printed %s", out)
	}
}

func TestARetryIsNoOutcome(t *testing.T) {
	t.Parallel()
	a, out := awaiting(false)
	a.expect(receipt{UID: "e.1", ID: "a"})
	a.seal()
	hear(t, a, told(t, "e.1 a retrying"))
	if isDone(a) || out.Len() > 0 {
		t.Errorf("done %t, printed %s", isDone(a), out)
	}
	hear(t, a, told(t, "e.1 a failed", "e.2 b succeeded"))
	if !isDone(a) || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("done %t, printed %s", isDone(a), out)
	}
	if err := a.verdict(1, nil); err == nil || !strings.Contains(err.Error(), "1 of 1 jobs did not succeed") {
		t.Errorf("got %v", err)
	}
}

func TestItIsNotOverBeforeEveryJobIsKnown(t *testing.T) {
	t.Parallel()
	a, _ := awaiting(false)
	a.expect(receipt{UID: "e.1"})
	hear(t, a, told(t, "e.1 a succeeded"))
	if isDone(a) {
		t.Error("over, although more jobs may be published")
	}
	a.seal()
	a.seal()
	if !isDone(a) {
		t.Error("not over, although every job has its outcome")
	}
}

func TestADelayedJobIsKnownByItsID(t *testing.T) {
	t.Parallel()
	a, out := awaiting(true)
	a.expect(receipt{UID: "e.1", ID: "a"})
	a.seal()
	hear(t, a, told(t, "e.7 a succeeded"))
	if !isDone(a) || !strings.Contains(out.String(), `"e.7"`) {
		t.Errorf("done %t, printed %s", isDone(a), out)
	}
}

func TestTheVerdictNamesJobsWithoutAnOutcome(t *testing.T) {
	t.Parallel()
	a, _ := awaiting(false)
	a.expect(receipt{UID: "e.1"})
	a.expect(receipt{UID: "e.2"})
	hear(t, a, told(t, "e.2 b succeeded"))
	if err := a.verdict(2, errTimeout); !errors.Is(err, errTimeout) || !strings.Contains(err.Error(), "1 of 2 jobs have no outcome yet, among them e.1") {
		t.Errorf("got %v", err)
	}
}

func TestAnUnreadableEventEndsTheWait(t *testing.T) {
	t.Parallel()
	a, _ := awaiting(false)
	if err := a.settle(operate.Event{BatchID: "b7", Data: []byte("{")}); err == nil || !strings.Contains(err.Error(), "b7") {
		t.Errorf("got %v, want an error that names the event", err)
	}
}
