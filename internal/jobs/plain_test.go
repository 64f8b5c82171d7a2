package jobs_test

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"rollcall/internal/jobs"
)

// Strings are looked at 8 and 32 bytes at a time: every byte is tried at every place of more than two
// such blocks.
func TestEveryByteAtEveryPlaceOfAString(t *testing.T) {
	t.Parallel()
	const length = 75
	for at := range length {
		for c := range 256 {
			text := strings.Repeat("x", at) + string([]byte{byte(c)}) + strings.Repeat("y", length-at-1)
			quoted := []byte(`"` + text + `"`)
			if got, want := jobs.ValidJSON(quoted), json.Valid(quoted) && utf8.Valid(quoted); got != want {
				t.Errorf("ValidJSON(%q) = %v, encoding/json says %v", quoted, got, want)
			}
			call := jobs.AppendCall(nil, []*jobs.Job{{Type: text}})
			var read []struct{ Type string }
			if err := json.Unmarshal(call, &read); err != nil || !utf8.Valid(call) {
				t.Fatalf("the call of a job of type %q is no JSON: %v\n%q", text, err, call)
			}
			if want := strings.ToValidUTF8(text, "\ufffd"); read[0].Type != want {
				t.Errorf("a job of type %q travels as %q", text, read[0].Type)
			}
		}
	}
}

// Times are written by hand; they look as package time writes them.
func TestTimesAreWrittenAsRFC3339(t *testing.T) {
	t.Parallel()
	times := []time.Time{
		{}, time.Unix(0, 0), time.Unix(1, 1), time.Date(2024, 2, 29, 23, 59, 59, 999_999_999, time.UTC), time.Date(2026, 10, 5, 1, 2, 3, 120_000_000, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 1000, time.UTC), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2026, 3, 29, 2, 30, 0, 5_000, time.FixedZone("somewhere", -5*3600)),
	}
	for range 10_000 {
		times = append(times, time.Unix(rand.Int64N(253_402_300_800), rand.Int64N(1e9)))
	}
	for _, at := range times {
		call := jobs.AppendCall(nil, []*jobs.Job{{Delivery: jobs.Delivery{Published: at}}})
		if want := `"time":"` + at.UTC().Format(time.RFC3339Nano) + `"`; !strings.Contains(string(call), want) {
			t.Fatalf("%s has no %s", call, want)
		}
	}
}

// The second that a time shares with the one before it is written from memory: it is the right one.
func TestTimesOfACallAreWrittenEachForItself(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 12, 31, 23, 59, 58, 0, time.UTC)
	var call []*jobs.Job
	for range 1000 {
		at = at.Add(rand.N(900 * time.Millisecond))
		call = append(call, &jobs.Job{Delivery: jobs.Delivery{Published: at}, Deadline: at.Add(rand.N(time.Minute))})
	}
	var events []struct{ Time, RollcallDeadline time.Time }
	if err := json.Unmarshal(jobs.AppendCall(nil, call), &events); err != nil {
		t.Fatal(err)
	}
	for i, j := range call {
		if !events[i].Time.Equal(j.Published) || !events[i].RollcallDeadline.Equal(j.Deadline) {
			t.Fatalf("job %d is of %s until %s, the call says %s and %s", i, j.Published, j.Deadline, events[i].Time, events[i].RollcallDeadline)
		}
	}
}
