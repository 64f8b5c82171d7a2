package jobs

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// SetEventType is the CloudEvents type of the event that ends a set.
const SetEventType = "rollcall.set.settled.v1"

// SetOutcome is the outcome of a whole set: the word in its event's subject.
type SetOutcome string

// SetSucceeded: all members. SetFailed: none succeeded. SetPartial: some did. SetAbandoned: the
// set was too old before all its members had ended.
const (
	SetSucceeded SetOutcome = "succeeded"
	SetFailed    SetOutcome = "failed"
	SetPartial   SetOutcome = "partial"
	SetAbandoned SetOutcome = "abandoned"
)

// SetCounts is how many members of a set ended with which outcome.
type SetCounts struct {
	Total     int `json:"total"`
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`
	Expired   int `json:"expired"`
	Invalid   int `json:"invalid"`
	Cancelled int `json:"cancelled"`
}

// SetFailure is one member that did not succeed.
type SetFailure struct {
	ID      string  `json:"id"`
	UID     string  `json:"uid"`
	Outcome Outcome `json:"outcome"`
	Reason  string  `json:"reason"`
	// Erased members have neither id nor reason.
	Erased bool `json:"erased,omitempty"`
}

// WithoutTexts returns what stays of a member that is erased.
func (f SetFailure) WithoutTexts() SetFailure {
	return SetFailure{UID: f.UID, Outcome: f.Outcome, Erased: true}
}

const (
	// maxSetFailures of a set are listed in its event.
	maxSetFailures = 100
	// maxFailureID and maxFailureReason bound the texts of an entry, in bytes.
	maxFailureID     = 256
	maxFailureReason = 200
	// maxTallyFailures bounds the list of one lane, in bytes: a tally is written anew by every
	// commit that touches its set.
	maxTallyFailures = 16 << 10
)

// ErrTally is returned for bytes that are not the tally of a set.
var ErrTally = errors.New("not the tally of a set")

// SetTally is what the ledger has counted of a set, in one lane or, merged, in all of them. The
// zero SetTally has counted nothing. A SetTally is a value: its methods return a changed copy.
type SetTally struct {
	// Size is the largest that a member, or a person, declared; 0 = not declared yet.
	Size int `json:"size,omitempty"`
	// FirstAt is when the first member was published, by the broker's clock. Zero where none
	// has ended yet.
	FirstAt time.Time `json:"first_at,omitzero"`
	Counts  SetCounts `json:"counts"`
	// Failed lists members that did not succeed; Truncated reports that it is not complete.
	Failed    []SetFailure `json:"failed,omitempty"`
	Truncated bool         `json:"truncated,omitempty"`
	// Ended means that the set had ended when the tally was written, and that nothing has been
	// added since.
	Ended bool `json:"ended,omitempty"`
}

// Complete reports whether as many members have ended as were declared.
func (t SetTally) Complete() bool { return t.Size > 0 && t.Counts.Total >= t.Size }

// Add returns the tally with one more member, whose outcome must be final.
func (t SetTally) Add(j *Job, r *Ruling) SetTally {
	t.Size, t.Ended = max(t.Size, j.SetSize), false
	t.FirstAt = earlier(t.FirstAt, j.Published)
	t.Counts.add(r.Outcome)
	if r.Outcome == Succeeded {
		return t
	}
	f := SetFailure{ID: Clip(j.ID, maxFailureID), UID: j.UID, Outcome: r.Outcome, Reason: Clip(r.Reason, maxFailureReason)}
	if len(t.Failed) >= maxSetFailures || failureBytes(t.Failed)+f.bytes() > maxTallyFailures {
		t.Truncated = true
		return t
	}
	t.Truncated = t.Truncated || len(f.ID) < len(j.ID)
	t.Failed = append(slices.Clip(t.Failed), f) // never into an array that another copy shares
	return t
}

// Merge returns the sum of two lanes.
func (t SetTally) Merge(o SetTally) SetTally {
	t.Size, t.Ended = max(t.Size, o.Size), false
	t.FirstAt = earlier(t.FirstAt, o.FirstAt)
	t.Counts.Total += o.Counts.Total
	t.Counts.Succeeded += o.Counts.Succeeded
	t.Counts.Failed += o.Counts.Failed
	t.Counts.Expired += o.Counts.Expired
	t.Counts.Invalid += o.Counts.Invalid
	t.Counts.Cancelled += o.Counts.Cancelled
	t.Failed = append(slices.Clip(t.Failed), o.Failed...)
	t.Truncated = t.Truncated || o.Truncated
	return t
}

// Outcome is that of a set whose members are those counted.
func (t SetTally) Outcome() SetOutcome {
	switch t.Counts.Succeeded {
	case t.Counts.Total:
		return SetSucceeded
	case 0:
		return SetFailed
	default:
		return SetPartial
	}
}

// Encode returns what [DecodeSetTally] reads.
func (t SetTally) Encode() ([]byte, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("encode the tally of a set: %w", err)
	}
	return b, nil
}

// DecodeSetTally reads a tally. The error wraps [ErrTally].
func DecodeSetTally(b []byte) (SetTally, error) {
	var t SetTally
	if err := json.Unmarshal(b, &t); err != nil {
		return SetTally{}, fmt.Errorf("%w: %w", ErrTally, err)
	}
	if c := t.Counts; t.Size < 0 || min(c.Succeeded, c.Failed, c.Expired, c.Invalid, c.Cancelled) < 0 ||
		c.Total != c.Succeeded+c.Failed+c.Expired+c.Invalid+c.Cancelled {
		return SetTally{}, fmt.Errorf("%w: its counts contradict each other", ErrTally)
	}
	return t, nil
}

// Memory returns about how many bytes the tally takes in memory.
func (t SetTally) Memory() int { return 128 + failureBytes(t.Failed) }

func (c *SetCounts) add(o Outcome) {
	c.Total++
	switch o {
	case Succeeded:
		c.Succeeded++
	case Failed:
		c.Failed++
	case Expired:
		c.Expired++
	case Invalid:
		c.Invalid++
	default:
		c.Cancelled++
	}
}

func (f *SetFailure) bytes() int { return len(f.ID) + len(f.UID) + len(f.Reason) + 64 }

func failureBytes(list []SetFailure) (n int) {
	for i := range list {
		n += list[i].bytes()
	}
	return n
}

// earlier returns the earlier of two times; a zero one does not count.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// SetEvent is the event of a set as a reader sees it.
type SetEvent struct {
	SpecVersion     string       `json:"specversion"`
	ID              string       `json:"id"`
	Source          string       `json:"source"`
	Type            string       `json:"type"`
	Subject         SetOutcome   `json:"subject"`
	Time            time.Time    `json:"time"`
	DataContentType string       `json:"datacontenttype"`
	Data            SetEventData `json:"data"`
}

// SetEventData is the data of the event of a set.
type SetEventData struct {
	Set        string       `json:"set"`
	Pool       string       `json:"pool"`
	Outcome    SetOutcome   `json:"outcome"`
	Size       int          `json:"size"`
	FirstAt    time.Time    `json:"first_at"`
	SettledAt  time.Time    `json:"settled_at"`
	DurationMS float64      `json:"duration_ms"`
	Counts     SetCounts    `json:"counts"`
	Failed     []SetFailure `json:"failed"`
	Truncated  bool         `json:"truncated"`
}

// NewSetEvent returns the event of a set that ended at a time with the members that t counted.
func NewSetEvent(pool, set string, t SetTally, outcome SetOutcome, at time.Time) SetEvent {
	at = at.UTC()
	first := t.FirstAt.UTC()
	if t.FirstAt.IsZero() {
		first = at
	}
	failed := slices.SortedFunc(slices.Values(t.Failed), func(a, b SetFailure) int {
		return cmp.Or(cmp.Compare(len(a.UID), len(b.UID)), cmp.Compare(a.UID, b.UID))
	})
	truncated := t.Truncated || len(failed) > maxSetFailures
	return SetEvent{
		SpecVersion: "1.0", ID: set, Source: "/rollcall/" + pool, Type: SetEventType,
		Subject: outcome, Time: at, DataContentType: "application/json",
		Data: SetEventData{
			Set: set, Pool: pool, Outcome: outcome, Size: t.Size, FirstAt: first, SettledAt: at,
			DurationMS: float64(max(at.Sub(first), 0)) / float64(time.Millisecond), Counts: t.Counts,
			Failed: append([]SetFailure{}, failed[:min(len(failed), maxSetFailures)]...), Truncated: truncated,
		},
	}
}

// Encode returns the event in structured JSON, at most limit bytes long: where it would be
// longer its list of members is cut, from the end, and says "truncated":true.
func (e SetEvent) Encode(limit int) ([]byte, error) {
	for {
		b, err := json.Marshal(e)
		if err != nil {
			return nil, fmt.Errorf("encode the event of set %s: %w", e.ID, err)
		}
		if len(b) <= limit || len(e.Data.Failed) == 0 {
			return b, nil
		}
		e.Data.Failed, e.Data.Truncated = e.Data.Failed[:len(e.Data.Failed)/2], true
	}
}

// DecodeSetEvent reads the event of a set.
func DecodeSetEvent(b []byte) (SetEvent, error) {
	var e SetEvent
	if err := json.Unmarshal(b, &e); err != nil {
		return SetEvent{}, fmt.Errorf("decode the event of a set: %w", err)
	}
	if e.Type != SetEventType {
		return SetEvent{}, fmt.Errorf("decode the event of a set: type %q, want %q", Clip(e.Type, 64), SetEventType)
	}
	return e, nil
}
