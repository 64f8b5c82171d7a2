package operate

import (
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

// timeline is what events say of a job that is final, and of those that were made of its dead letter.
type timeline struct {
	id string
	// named means that the id is what a producer called the job; else it is the job's uid.
	named bool
	// ends are the events that a job of the id is final in; attempts are those before.
	ends, attempts []mention
	// first means that the first attempt has been read.
	first bool
	// replays are the ends and attempts of jobs that were made of dead letters, whosever.
	replays []mention
}

// read takes in an event.
func (t *timeline) read(e Event) error {
	mentions(e, t.id, func(m mention) {
		if m.ReplayOf != "" && m.UID != t.id {
			m.data = &jobs.EventData{BatchID: m.data.BatchID, Replica: m.data.Replica, SettledAt: m.data.SettledAt}
			m.stored.Data = nil // there may be many replays of other jobs
			t.replays = append(t.replays, m)
			return
		}
		t.own(m)
	})
	return nil
}

func (t *timeline) own(m mention) {
	if m.UID != t.id && (!t.named || m.ID != t.id) {
		return
	}
	if m.Final() {
		t.ends = append(t.ends, m)
	} else {
		t.attempts = append(t.attempts, m)
	}
	t.first = t.first || m.Attempt <= 1
}

// enough means that the whole life of the job has been read.
func (t *timeline) enough() bool { return len(t.ends) > 0 && t.first }

// adopt takes replays for the job itself that have its id, where no other job has: the event of the
// one that they were made of may be gone.
func (t *timeline) adopt() {
	if len(t.ends) > 0 {
		return
	}
	t.replays = slices.DeleteFunc(t.replays, func(m mention) bool {
		t.own(m)
		return m.ID == t.id
	})
}

// last is the end of the job, or of the last one where several have its id.
func (t *timeline) last() mention {
	return slices.MaxFunc(t.ends, func(a, b mention) int { return a.data.SettledAt.Compare(b.data.SettledAt) })
}

// steps returns what happened, beginning with the publishing, and the uids of the jobs that replays made of the job,
// or of each other.
func (t *timeline) steps() (steps []JobStep, replayed map[string]bool) {
	family := map[string]bool{}
	var published []time.Time
	for _, m := range slices.Concat(t.ends, t.attempts) {
		family[m.UID] = true
		if at := m.published(); !at.IsZero() {
			published = append(published, at)
		}
		switch {
		case m.Outcome == jobs.Cancelled:
			steps = append(steps, m.step(StepCancelled))
		case m.Final():
			steps = append(steps, m.step(StepFinal))
		default:
			steps = append(steps, m.step(StepAttempt))
		}
	}
	if len(published) > 0 {
		first := JobStep{At: slices.MinFunc(published, time.Time.Compare), What: StepPublished}
		steps = slices.Insert(steps, 0, first) // before what happened in the same millisecond
	}
	replayed = map[string]bool{}
	slices.SortStableFunc(t.replays, func(a, b mention) int { return a.data.SettledAt.Compare(b.data.SettledAt) })
	for _, r := range t.replays { // a replay begins after the end of what it was made of
		if family[r.ReplayOf] {
			family[r.UID], replayed[r.UID] = true, true
			s := r.step(StepReplayed)
			s.UID = r.UID
			steps = append(steps, s)
		}
	}
	return steps, replayed
}

// final looks for the event of a job that is final, from the newest on. Where the
// ledger still holds the job's page, the search begins there: the page was written by the same
// publish as the job's event, or by a later one for its neighbours.
func (a *Admin) final(ctx context.Context, id string) (JobReport, error) {
	end, err := a.pageEnd(ctx, id)
	if err != nil {
		return JobReport{}, err
	}
	t, err := a.timeline(ctx, id, !isUID(id), end)
	if err == nil && len(t.ends) == 0 && end > 0 { // an erasure has rewritten the event
		end = 0
		t, err = a.timeline(ctx, id, t.named, end)
	}
	if err == nil && len(t.ends) == 0 && !t.named { // a name that looks like a uid
		t, err = a.timeline(ctx, id, true, end)
	}
	if err != nil {
		return JobReport{}, err
	}
	if t.adopt(); len(t.ends) == 0 {
		return JobReport{}, fmt.Errorf("job %s of pool %s: %w: it never existed, was erased, or its event has left stream %s", id, a.pool, ErrNotFound, a.conn.Done())
	}
	last := t.last()
	report := JobReport{
		UID: last.UID, ID: last.ID, Subject: last.Subject, State: JobFinal, Published: last.published(), Attempt: last.Attempt, Outcome: last.Outcome,
		ReplayOf: last.ReplayOf, Reason: last.Reason, BatchID: last.data.BatchID, EventSeq: last.stored.Seq, SettledAt: last.data.SettledAt,
	}
	return report, a.addSteps(ctx, &report, t, end)
}

// timeline reads what events before a sequence, 0 for all, say of a job.
func (a *Admin) timeline(ctx context.Context, id string, named bool, end uint64) (*timeline, error) {
	t := &timeline{id: id, named: named}
	return t, NewEvents(a.conn).Backwards(ctx, a.pool, end, t.read, t.enough)
}

// isUID reports whether an id is the uid of a job, in the job stream or in LATER.
func isUID(id string) bool {
	_, err := jobs.ParseUID(strings.TrimPrefix(id, bus.LaterSubject("")))
	return err == nil
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

// addSteps adds the history of a final job with its dead letter or, where that is gone, what was made
// of it. end is how far events were read, 0 for all.
func (a *Admin) addSteps(ctx context.Context, report *JobReport, t *timeline, end uint64) error {
	defer func() { sortSteps(report.History) }()
	report.History, _ = t.steps()
	if report.Outcome == jobs.Succeeded || report.Outcome == jobs.Cancelled {
		return nil
	}
	letters, err := a.letterSteps(ctx, report.Subject, map[string]bool{report.UID: true})
	if err != nil {
		return err
	}
	if len(letters) > 0 {
		report.DeadLetter = letters[0].Seq
		letters[0].UID = ""
		// It was not replayed, whatever other jobs say.
		report.History = slices.DeleteFunc(report.History, func(s JobStep) bool { return s.What == StepReplayed })
		report.History = append(report.History, letters[0])
		return nil
	}
	if end > 0 { // the letter may have been replayed, after what was read
		if err := NewEvents(a.conn).Stored(ctx, a.pool, end, false, t.read); err != nil {
			return err
		}
	}
	steps, replayed := t.steps()
	report.History = steps
	if len(replayed) == 0 {
		return nil
	}
	letters, err = a.letterSteps(ctx, report.Subject, replayed)
	report.History = append(report.History, letters...)
	return err
}

// letterSteps returns the dead letters of jobs on a subject, until each of them has one.
func (a *Admin) letterSteps(ctx context.Context, subject string, uids map[string]bool) (steps []JobStep, err error) {
	err = a.letters(ctx, LetterFilter{Subject: subject}, func(l bus.Letter) error {
		if !uids[l.UID] {
			return nil
		}
		steps = append(steps, JobStep{At: l.FailedAt, What: StepLetter, UID: l.UID, Reason: l.Reason, Seq: l.Seq})
		if len(steps) == len(uids) {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	return steps, nil
}
