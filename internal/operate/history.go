package operate

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"rollcall/internal/jobs"
)

// Step is a kind of thing that happens to a job.
type Step string

// Steps in the life of a job.
const (
	StepPublished Step = "published"
	// StepAttempt is a batch after which the job was to be repeated.
	StepAttempt Step = "attempt"
	StepFinal   Step = "final"
	// StepCancelled is the end of a job that somebody cancelled.
	StepCancelled Step = "cancelled"
	// StepLetter is the dead letter of the job, or of a replay.
	StepLetter Step = "dead_letter"
	// StepReplayed is the end, or an attempt, of a job that was made of the dead letter.
	StepReplayed Step = "replayed"
)

// JobStep is one thing that happened to a job.
type JobStep struct {
	At   time.Time `json:"at"`
	What Step      `json:"what"`
	// UID is that of the job that a replay made.
	UID string `json:"uid,omitempty"`
	// By is who cancelled the job.
	By      string       `json:"by,omitempty"`
	Attempt int          `json:"attempt,omitempty"`
	Outcome jobs.Outcome `json:"outcome,omitempty"`
	Reason  string       `json:"reason,omitempty"`
	// Services is what each service said.
	Services map[string]string `json:"services,omitempty"`
	RetryAt  time.Time         `json:"retry_at,omitzero"`
	BatchID  string            `json:"batch_id,omitempty"`
	// Seq is the sequence of the event in DONE, or of the letter in DEAD.
	Seq uint64 `json:"seq,omitempty"`
}

// errEnough ends a search.
var errEnough = errors.New("found")

// mention is a job as an event speaks of it.
type mention struct {
	jobs.EventJob
	stored Event
	data   *jobs.EventData
}

func (m *mention) step(what Step) JobStep {
	s := JobStep{
		At: m.data.SettledAt, What: what, Attempt: m.Attempt, Outcome: m.Outcome, Reason: m.Reason, Services: m.Services,
		RetryAt: m.RetryAt, BatchID: m.data.BatchID, Seq: m.stored.Seq,
	}
	if m.Outcome == jobs.Cancelled {
		s.By = m.data.Replica
	}
	return s
}

// published is when the job was, zero where its event does not say.
func (m *mention) published() time.Time {
	if m.AgeMS == nil {
		return time.Time{}
	}
	return m.data.SettledAt.Add(-time.Duration(*m.AgeMS) * time.Millisecond)
}

// written returns what of an id must stand in its event as it is: all of it, or nothing where
// JSON escapes some of it.
func written(id string) []byte {
	if strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' }) {
		return nil
	}
	return []byte(id)
}

// mentions calls each for the entries of an event that speak of id, and for those of jobs that were
// made of dead letters.
func mentions(e Event, id string, each func(mention)) {
	if !bytes.Contains(e.Data, written(id)) && !bytes.Contains(e.Data, []byte(`"replay_of":`)) {
		return
	}
	event, err := jobs.DecodeEvent(e.Data)
	if err != nil {
		return // not an event of ours
	}
	for i := range event.Data.Jobs {
		if j := event.Data.Jobs[i]; j.UID == id || j.ID == id || j.ReplayOf != "" {
			each(mention{j, e, &event.Data})
		}
	}
}

// attempts returns the attempts of an open job, the oldest first, as far as their events are
// stored. Older events than the job are not read.
func (a *Admin) attempts(ctx context.Context, report *JobReport) (steps []JobStep, err error) {
	older := false
	each := func(e Event) error {
		older = older || e.Time.Before(report.Published)
		mentions(e, report.UID, func(m mention) {
			if m.UID == report.UID {
				steps = append(steps, m.step(StepAttempt))
			}
		})
		return nil
	}
	if err := NewEvents(a.conn).Backwards(ctx, a.pool, 0, each, func() bool { return older }); err != nil {
		return nil, err
	}
	sortSteps(steps)
	return steps, nil
}

func sortSteps(steps []JobStep) {
	slices.SortStableFunc(steps, func(a, b JobStep) int { return a.At.Compare(b.At) })
}
