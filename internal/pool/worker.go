package pool

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
)

// settleGrace is how long finished work may still be settled after the hard deadline.
const settleGrace = time.Second

// worker lives one batch's life: call, settle, commit, ack. It is shared by all slots and
// holds no state of a batch.
type worker struct {
	services    []Service
	specs       []jobs.Spec
	policy      jobs.Policy
	settler     Settler
	ledger      Ledger
	deadLetters DeadLetters
	observer    Observer
	log         zerolog.Logger
	maxEvent    int
	probe       func(point string)
}

// run takes a batch from its seal to its end. work is cancelled at the hard deadline, the
// batch's lease when it is lost. called is told when the calls have ended. It reports whether
// the batch was cut off by the deadline.
func (w *worker) run(work context.Context, f *flight, called func()) (cutOff bool) {
	b := f.batch
	ctx, stop := context.WithCancelCause(work)
	defer stop(nil)
	defer context.AfterFunc(f.lease, func() { stop(context.Cause(f.lease)) })()

	ctx, ended := w.observer.Batch(ctx, b)
	var settled *jobs.Settlement
	defer func() { ended(settled) }()

	settling, release := settleContext(ctx, f.lease)
	defer release()

	if b.Seal == jobs.SealLone && !w.beginLone(settling, f) {
		return w.abandon(work, f)
	}
	expire(b.Jobs, time.Now())
	columns := w.fanOut(ctx, b)
	called()
	if ctx.Err() != nil && !w.conclusive(b, columns) {
		return w.abandon(work, f)
	}
	s := w.settle(b, columns)
	s, err := w.commit(settling, f, s)
	if err != nil {
		w.log.Warn().Err(err).Str("batch_id", b.ID).Int("jobs", len(b.Jobs)).Msg("batch given up uncommitted; its jobs come back")
		return w.abandon(work, f)
	}
	settled = s
	return false
}

// settleContext returns a context that outlives ctx by the grace, but not the lease: a
// commit for jobs that may be somebody else's by now is only worth its conflict.
func settleContext(ctx, lease context.Context) (context.Context, context.CancelFunc) {
	settling, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stopLease := context.AfterFunc(lease, func() { cancel(context.Cause(lease)) })
	stopWork := context.AfterFunc(ctx, func() {
		grace := time.NewTimer(settleGrace)
		defer grace.Stop()
		select {
		case <-grace.C:
			cancel(context.Cause(ctx))
		case <-settling.Done():
		}
	})
	return settling, func() {
		stopLease()
		stopWork()
		cancel(nil)
	}
}

// beginLone writes down that the job is about to run alone, before it can crash this process.
func (w *worker) beginLone(ctx context.Context, f *flight) bool {
	j := f.batch.Jobs[0]
	w.observer.Event(jobs.LoneRuns, 1)
	err := w.ledger.Mark(ctx, []jobs.Mark{{Ref: j.Ref, Lone: j.Record.Lone + 1, Group: 1}})
	if errors.As(err, new(*jobs.ConflictError)) {
		w.lost(f, f.batch.Jobs)
		f.batch.Jobs = nil
		return false
	}
	return err == nil
}

// expire gives a verdict to the jobs that are past their deadline.
func expire(members []*jobs.Job, now time.Time) {
	for _, j := range members {
		if j.Verdict == nil && !j.Deadline.IsZero() && !now.Before(j.Deadline) {
			j.Verdict = &jobs.Verdict{Outcome: jobs.Expired, Reason: jobs.ReasonDeadline}
		}
	}
}

// conclusive reports whether every called service gave an answer of its own in time, so that
// the batch can be settled although its context has ended.
func (w *worker) conclusive(b *jobs.Batch, columns []column) bool {
	for i := range columns {
		if columns[i].err != "" || (columns[i].answers == nil && len(jobs.Missing(b.Jobs, w.specs[i].Name)) > 0) {
			return false
		}
	}
	return true
}

// abandon lets go of a batch without a record. At the hard deadline its jobs are handed back
// at once; where the broker refuses the commit they come back after a back-off, by their
// deliveries since no attempt was recorded. After a lost lease they are somebody else's, and a
// nak would take them away again.
func (w *worker) abandon(work context.Context, f *flight) (cutOff bool) {
	if f.lease.Err() != nil {
		w.observer.Event(jobs.LeaseLost, len(f.batch.Jobs))
		return false
	}
	f.settled.Store(true)
	cutOff = work.Err() != nil
	for _, j := range f.batch.Jobs {
		if cutOff {
			w.nak(j, 0)
		} else {
			w.nak(j, w.policy.Backoff(j.Delivered))
		}
	}
	return cutOff && len(f.batch.Jobs) > 0
}

// settle rules on every job of the batch and encodes the event.
func (w *worker) settle(b *jobs.Batch, columns []column) *jobs.Settlement {
	now := time.Now()
	s := &jobs.Settlement{
		Batch:     b,
		Rulings:   make([]jobs.Ruling, len(b.Jobs)),
		Answers:   make([]jobs.Answers, len(b.Jobs)),
		SettledAt: now,
	}
	cells := make(jobs.Answers, len(b.Jobs)*len(columns))
	for i, j := range b.Jobs {
		answers := cells[i*len(columns) : (i+1)*len(columns) : (i+1)*len(columns)]
		sent := false
		for k := range columns {
			if columns[k].answers != nil {
				answers[k] = columns[k].answers[i]
				sent = sent || (columns[k].sent && answers[k] != nil && !answers[k].Unsent)
			}
		}
		s.Answers[i] = answers
		s.Rulings[i] = w.policy.Rule(j, w.specs, answers, sent, now)
	}
	for k := range columns {
		s.Services = append(s.Services, jobs.ServiceReport{
			Name: w.specs[k].Name, Required: w.specs[k].Required,
			Tries: columns[k].tries, Duration: jobs.Millis(columns[k].duration), Error: columns[k].err,
		})
	}
	w.seal(s)
	return s
}

// seal counts the answers of a settlement and encodes its event.
func (w *worker) seal(s *jobs.Settlement) {
	for k := range s.Services {
		r := &s.Services[k]
		r.OK, r.Retry, r.Fail = 0, 0, 0
		for _, answers := range s.Answers {
			switch a := answers[k]; {
			case a == nil:
			case a.Status == jobs.StatusOK:
				r.OK++
			case a.Status == jobs.StatusFail:
				r.Fail++
			default:
				r.Retry++
			}
		}
	}
	s.EncodeEvent(w.maxEvent)
}

// commit finishes a settlement in the one order that loses nothing: dead letters confirmed,
// commit confirmed, then acks and naks. Jobs that another replica finished first are dropped
// and acked, and the rest is committed. It returns what was committed, nil if nothing was left.
func (w *worker) commit(ctx context.Context, f *flight, s *jobs.Settlement) (*jobs.Settlement, error) {
	if letters := deadLetters(s); len(letters) > 0 {
		if err := w.deadLetters.Publish(ctx, letters); err != nil {
			return nil, err
		}
		w.observer.Event(jobs.DeadLettered, len(letters))
	}
	for {
		w.probe(pointBeforeCommit)
		err := w.ledger.Commit(ctx, s)
		if err == nil {
			w.probe(pointAfterCommit)
			w.acknowledge(f, s)
			return s, nil
		}
		var conflict *jobs.ConflictError
		if !errors.As(err, &conflict) {
			return nil, err
		}
		w.observer.Event(jobs.CommitRefused, 1)
		var lost []*jobs.Job
		s, lost = s.Without(conflict.Final)
		w.lost(f, lost)
		f.batch = s.Batch
		if len(s.Batch.Jobs) == 0 {
			return nil, nil
		}
		w.seal(s)
	}
}

func deadLetters(s *jobs.Settlement) (letters []jobs.DeadLetter) {
	for i := range s.Rulings {
		if s.Rulings[i].Outcome.Dead() {
			letters = append(letters, jobs.DeadLetter{Job: s.Batch.Jobs[i], Ruling: &s.Rulings[i], BatchID: s.Batch.ID})
		}
	}
	return letters
}

// lost acks jobs that are final in another replica's event.
func (w *worker) lost(f *flight, finished []*jobs.Job) {
	w.observer.Event(jobs.DuplicateLost, len(finished))
	for _, j := range finished {
		w.ack(j)
	}
}

func (w *worker) acknowledge(f *flight, s *jobs.Settlement) {
	f.settled.Store(true)
	for i, j := range s.Batch.Jobs {
		if r := &s.Rulings[i]; r.Outcome.Final() {
			w.ack(j)
		} else {
			w.nak(j, r.Delay)
		}
		if i == 0 {
			w.probe(pointBetweenAcks)
		}
	}
}

// ack and nak only log a failure: without the settlement the broker delivers again, and the
// ledger tells what is left to do.
func (w *worker) ack(j *jobs.Job) {
	if err := w.settler.Ack(&j.Delivery); err != nil {
		w.log.Debug().Err(err).Str("uid", j.UID).Msg("ack not sent")
	}
}

func (w *worker) nak(j *jobs.Job, delay time.Duration) {
	if err := w.settler.Nak(&j.Delivery, delay); err != nil {
		w.log.Debug().Err(err).Str("uid", j.UID).Msg("nak not sent")
	}
}
