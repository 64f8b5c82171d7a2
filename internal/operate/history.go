package operate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
)

// Step is a kind of thing that happens to a job.
type Step string

// Steps in the life of a job.
const (
	StepPublished Step = "published"
	// StepAttempt is a batch after which the job was to be repeated.
	StepAttempt Step = "attempt"
	StepFinal   Step = "final"
	// StepLetter is the dead letter of the job.
	StepLetter Step = "dead_letter"
	// StepReplayed is the end, or an attempt, of a job that was made of the dead letter.
	StepReplayed Step = "replayed"
)

// JobStep is one thing that happened to a job.
type JobStep struct {
	At   time.Time `json:"at"`
	What Step      `json:"what"`
	// UID is that of the job that a replay made.
	UID     string       `json:"uid,omitempty"`
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
	return JobStep{
		At: m.data.SettledAt, What: what, Attempt: m.Attempt, Outcome: m.Outcome, Reason: m.Reason, Services: m.Services,
		RetryAt: m.RetryAt, BatchID: m.data.BatchID, Seq: m.stored.Seq,
	}
}

// written returns what of an id must stand in its event as it is: all of it, or nothing where
// JSON escapes some of it.
func written(id string) []byte {
	if strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' }) {
		return nil
	}
	return []byte(id)
}

// mentions calls each for the entries of an event that speak of id, as a job or as what a job
// was made of.
func mentions(e Event, id string, each func(mention)) {
	if !bytes.Contains(e.Data, written(id)) {
		return
	}
	event, err := jobs.DecodeEvent(e.Data)
	if err != nil {
		return // not an event of ours
	}
	for i := range event.Data.Jobs {
		if j := event.Data.Jobs[i]; j.UID == id || j.ID == id || strings.HasPrefix(j.ID, id+replayMark) {
			each(mention{j, e, &event.Data})
		}
	}
}

// replayMark stands in the id of a job that was made of a dead letter, behind the uid.
const replayMark = ".replay."

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

// final looks for the event of a job that is final, from the newest on. Where the
// ledger still holds the job's page, the search begins there: the page was written by the same
// publish as the job's event, or by a later one for its neighbours.
func (a *Admin) final(ctx context.Context, id string) (JobReport, error) {
	end, err := a.pageEnd(ctx, id)
	if err != nil {
		return JobReport{}, err
	}
	var ends []mention
	var steps []JobStep
	first := false
	each := func(e Event) error {
		mentions(e, id, func(m mention) {
			switch {
			case m.UID != id && m.ID != id:
				s := m.step(StepReplayed)
				s.UID = m.UID
				steps = append(steps, s)
			case m.Final():
				ends = append(ends, m)
			default:
				steps = append(steps, m.step(StepAttempt))
			}
			first = first || m.Attempt <= 1 && (m.UID == id || m.ID == id)
		})
		return nil
	}
	enough := func() bool { return len(ends) > 0 && first }
	if err := NewEvents(a.conn).Backwards(ctx, a.pool, end, each, enough); err != nil {
		return JobReport{}, err
	}
	if len(ends) == 0 && end > 0 { // an erasure has rewritten the event
		if err := NewEvents(a.conn).Backwards(ctx, a.pool, 0, each, enough); err != nil {
			return JobReport{}, err
		}
	}
	if len(ends) == 0 {
		return JobReport{}, fmt.Errorf("job %s of pool %s: %w: it never existed, was erased, or its event has left stream %s", id, a.pool, ErrNotFound, a.conn.Done())
	}
	last := slices.MaxFunc(ends, func(a, b mention) int { return a.data.SettledAt.Compare(b.data.SettledAt) })
	report := JobReport{
		UID: last.UID, ID: last.ID, Subject: last.Subject, State: JobFinal, Attempt: last.Attempt, Outcome: last.Outcome,
		Reason: last.Reason, BatchID: last.data.BatchID, EventSeq: last.stored.Seq, SettledAt: last.data.SettledAt,
	}
	for _, e := range ends {
		steps = append(steps, e.step(StepFinal))
	}
	report.History = steps
	return report, a.addLetter(ctx, &report, end)
}

// pageEnd is the sequence behind the page of a job, 0 if it is not known.
func (a *Admin) pageEnd(ctx context.Context, id string) (uint64, error) {
	ref, err := jobs.ParseUID(id)
	if err != nil {
		return 0, nil //nolint:nilerr // an id of the producer's says nothing of pages
	}
	entries, err := bus.NewDoneStore(a.conn).Read(ctx, []string{a.ledger().Page(ref)})
	if err != nil || len(entries) == 0 {
		return 0, err
	}
	return entries[0].Seq + ledger.MaxGroup + 1, nil // the event is in the same group
}

// addLetter adds the dead letter of a job that did not succeed, or what was made of it. end is
// how far events were read.
func (a *Admin) addLetter(ctx context.Context, report *JobReport, end uint64) error {
	defer func() { sortSteps(report.History) }()
	if report.Outcome == jobs.Succeeded || report.Outcome == jobs.Cancelled {
		return nil
	}
	err := a.letters(ctx, LetterFilter{Outcome: report.Outcome.String(), Subject: report.Subject}, func(l bus.Letter) error {
		if l.UID != report.UID {
			return nil
		}
		report.DeadLetter = l.Seq
		report.History = append(report.History, JobStep{At: l.FailedAt, What: StepLetter, Reason: l.Reason, Seq: l.Seq})
		return errEnough
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	if report.DeadLetter > 0 || end == 0 {
		return nil
	}
	// The letter is gone: it may have been replayed, after what was read.
	return NewEvents(a.conn).Stored(ctx, a.pool, end, false, func(e Event) error {
		mentions(e, report.UID, func(m mention) {
			if m.UID != report.UID {
				s := m.step(StepReplayed)
				s.UID = m.UID
				report.History = append(report.History, s)
			}
		})
		return nil
	})
}
