package operate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// verifyBlock bounds the letters that are compared with the ledger at once: the events of their
// batches are held meanwhile.
const verifyBlock = 64

// verify compares letters with what was committed. A letter is published before the commit of
// its batch, so a worker that has lost its jobs to another leaves letters of jobs that ended
// elsewhere, or have not ended. It adds what each service said of the job.
func (a *Admin) verify(ctx context.Context, letters []bus.Letter) error {
	open, err := a.confirm(ctx, letters)
	if err != nil || len(open) == 0 {
		return err
	}
	finals := map[string][]*bus.Letter{}
	for _, l := range open {
		ref, err := jobs.ParseUID(l.UID)
		if err != nil {
			continue // somebody else wrote the letter
		}
		record, known, err := a.lookUp(ctx, ref)
		if err != nil {
			return err
		}
		switch {
		case record.Final:
			finals[l.UID] = append(finals[l.UID], l)
		case known:
			if l.Elsewhere, err = a.goesOn(ctx, ref); err != nil {
				return err
			}
		}
	}
	return a.findEnds(ctx, finals)
}

// ending names a job and a batch that it may have ended in.
type ending struct{ uid, batch string }

// confirm returns the letters of which the event of their own batch does not say that the job
// ended in it.
func (a *Admin) confirm(ctx context.Context, letters []bus.Letter) (open []*bus.Letter, err error) {
	unsure := map[ending]*bus.Letter{}
	var subjects []string
	asked := map[string]bool{}
	for i := range letters {
		l := &letters[i]
		unsure[ending{l.UID, l.BatchID}] = l
		if l.BatchID != "" && !asked[l.BatchID] && jobs.CheckSubject(l.BatchID) == nil {
			asked[l.BatchID] = true
			for _, outcome := range []jobs.BatchOutcome{jobs.BatchFailed, jobs.BatchPartial} {
				subjects = append(subjects, bus.EventSubject(a.pool, outcome, l.BatchID))
			}
		}
	}
	entries, err := bus.NewDoneStore(a.conn).Read(ctx, subjects)
	if err != nil {
		return nil, fmt.Errorf("look the batches of dead letters up: %w", err)
	}
	for _, e := range entries {
		event, err := jobs.DecodeEvent(e.Data)
		if err != nil {
			continue // not an event of ours
		}
		for _, j := range event.Data.Jobs {
			key := ending{j.UID, event.Data.BatchID}
			if l := unsure[key]; l != nil && j.Final() {
				l.Services = j.Services
				delete(unsure, key)
			}
		}
	}
	return slices.Collect(maps.Values(unsure)), nil
}

// lookUp reads what the ledger knows of a job, and whether it knows its page at all.
func (a *Admin) lookUp(ctx context.Context, ref jobs.Ref) (record jobs.Record, known bool, err error) {
	_, offset := ref.Page()
	entries, err := bus.NewDoneStore(a.conn).Read(ctx, []string{a.ledger().Page(ref)})
	if err != nil || len(entries) == 0 {
		return jobs.Record{}, false, err
	}
	page, err := jobs.DecodePage(entries[0].Data)
	if err != nil {
		return jobs.Record{}, false, fmt.Errorf("%s: %w", entries[0].Subject, err)
	}
	return page.Record(offset), true, nil
}

// goesOn reports whether the job is still to be done, as an outcome.
func (a *Admin) goesOn(ctx context.Context, ref jobs.Ref) (jobs.Outcome, error) {
	stream, err := a.conn.Stream(ctx, a.streams.Stream)
	if errors.Is(err, bus.ErrMissing) {
		return "", nil
	}
	if err != nil || ref.Epoch != jobs.Epoch(stream.CachedInfo().Created) {
		return "", err
	}
	switch _, err := a.conn.Msg(ctx, stream, ref.Seq); {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return "", nil
	case err != nil:
		return "", a.conn.Explain("look for job "+ref.UID(), err)
	default:
		return jobs.Retrying, nil
	}
}

// findEnds looks for the events that jobs ended in, in batches other than those of their letters.
func (a *Admin) findEnds(ctx context.Context, letters map[string][]*bus.Letter) error {
	if len(letters) == 0 {
		return nil
	}
	oldest := time.Time{}
	for _, of := range letters {
		for _, l := range of {
			if oldest.IsZero() || l.FailedAt.Before(oldest) {
				oldest = l.FailedAt
			}
		}
	}
	// A worker that lost a job may have held it for long; an hour is beyond every useful horizon.
	oldest = oldest.Add(-time.Hour)
	older := false
	each := func(e Event) error {
		older = older || e.Time.Before(oldest)
		event, err := jobs.DecodeEvent(e.Data)
		if err != nil {
			return nil //nolint:nilerr // not an event of ours
		}
		for _, j := range event.Data.Jobs {
			if !j.Final() {
				continue
			}
			for _, l := range letters[j.UID] {
				l.Elsewhere, l.ElsewhereBatch, l.Services = j.Outcome, event.Data.BatchID, j.Services
			}
			delete(letters, j.UID)
		}
		return nil
	}
	return NewEvents(a.conn).Backwards(ctx, a.pool, 0, each, func() bool { return older || len(letters) == 0 })
}
