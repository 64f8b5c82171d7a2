package pool

import (
	"context"
	"errors"
	"time"

	"rollcall/internal/jobs"
)

// rule decides on every job of the batch, on an empty sheet for it.
func (x *executor) rule(b *jobs.Batch, results []serviceResult, on *sheet) *jobs.Settlement {
	now := x.now()
	s := &jobs.Settlement{
		Batch:     b,
		Rulings:   on.rulings,
		Replies:   on.replies,
		SettledAt: now,
		Took:      time.Since(b.SealedAt),
	}
	skipped := &jobs.Reply{Status: jobs.StatusSkipped}
	for i, j := range b.Jobs {
		replies := s.Replies[i]
		for k := range results {
			if results[k].replies != nil {
				replies[k] = results[k].replies[i]
			}
			if !j.Routed(k) {
				replies[k] = skipped
			}
		}
		s.Rulings[i] = x.policy.Rule(j, x.specs, replies, now)
	}
	for k := range results {
		s.Services = append(s.Services, jobs.ServiceReport{
			Name: x.specs[k].Name, Required: x.specs[k].Required,
			Tries: results[k].tries, Duration: jobs.Millis(results[k].duration), Error: results[k].err,
		})
	}
	if s.DataSize() > int64(x.maxEvent()) {
		s.DropData()
	}
	return s
}

// eventHeaderRoom is kept free of the server's max payload, which counts headers too.
const eventHeaderRoom = 1024

// maxEvent is how long an event may be, in bytes, as the server has it now.
func (x *executor) maxEvent() int { return x.maxPayload() - eventHeaderRoom }

// encodeEvent counts the replies of a settlement and encodes its event.
func (x *executor) encodeEvent(s *jobs.Settlement) {
	for k := range s.Services {
		r := &s.Services[k]
		r.OK, r.Retry, r.Fail, r.Skipped = 0, 0, 0, 0
		for _, replies := range s.Replies {
			switch a := replies[k]; {
			case a == nil:
			case a.Status == jobs.StatusOK:
				r.OK++
			case a.Status == jobs.StatusFail:
				r.Fail++
			case a.Status == jobs.StatusSkipped:
				r.Skipped++
			default:
				r.Retry++
			}
		}
	}
	s.NoData, s.Event = x.noData, x.events.get(0)
	s.EncodeEvent(x.maxEvent())
}

// commit finishes a settlement whose dead letters are confirmed, in the one order that loses
// nothing: commit confirmed, then acks and naks. Jobs that another replica finished first are dropped
// and acked, and the rest is committed. With an error it returns the jobs that are still open.
func (x *executor) commit(ctx context.Context, f *flight, s *jobs.Settlement) (end jobs.BatchEnd, open []*jobs.Job, err error) {
	end.Result = jobs.BatchAborted
	for {
		if x.leases.lapsed(s.Batch.Jobs, time.Now()) {
			f.move(stateLost)
			return end, s.Batch.Jobs, errLeaseLost
		}
		x.encodeEvent(s)
		x.probe(pointBeforeCommit)
		err := x.ledger.Commit(ctx, s)
		if err == nil {
			x.probe(pointAfterCommit)
			x.events.put(s.Event)
			s.Event = nil
			x.acknowledge(f, s)
			return jobs.BatchEnd{Result: jobs.BatchCommitted, Settlement: s}, nil, nil
		}
		var conflict *jobs.ConflictError
		if !errors.As(err, &conflict) {
			return end, s.Batch.Jobs, err
		}
		x.observer.Event(jobs.CommitRefused, 1)
		var finished []*jobs.Job
		s, finished = s.Without(conflict.Final)
		x.dropFinished(finished)
		if len(s.Batch.Jobs) == 0 {
			f.move(stateSettled)
			return jobs.BatchEnd{Result: jobs.BatchSuperseded}, nil, nil
		}
	}
}

// bury has the dead letters of a settlement confirmed. Jobs whose letters cannot be stored for now
// are not held against their mates: they wait and come back, and their service is asked again.
func (x *executor) bury(ctx context.Context, s *jobs.Settlement) error {
	letters, at := deadLetters(s)
	if len(letters) == 0 {
		return nil
	}
	stored := len(letters)
	err := x.deadLetters.Publish(ctx, letters)
	if refused, ok := errors.AsType[*jobs.LettersError](err); ok {
		reason := jobs.Clip(refused.Error(), maxReasonText)
		for k, i := range at {
			if refused.Refused[k] {
				stored--
				s.Rulings[i] = x.policy.Postpone(s.Batch.Jobs[i], x.specs, s.Replies[i], reason, x.now())
			}
		}
		x.log.Warn().Err(refused.Err).Str("batch_id", s.Batch.ID).Int("jobs", len(letters)-stored).
			Msg("jobs that failed wait, because their dead letters cannot be stored")
		x.observer.Event(jobs.Unburied, len(letters)-stored)
	} else if err != nil {
		return err
	}
	x.observer.Event(jobs.DeadLettered, stored)
	return nil
}

// deadLetters returns the letters of a settlement, and which of its jobs they are for.
func deadLetters(s *jobs.Settlement) (letters []jobs.DeadLetter, at []int) {
	for i := range s.Rulings {
		if r := &s.Rulings[i]; r.Outcome.Dead() {
			letters = append(letters, jobs.DeadLetter{Job: s.Batch.Jobs[i], Ruling: r, BatchID: s.Batch.ID})
			at = append(at, i)
		}
	}
	return letters, at
}

// dropFinished acks jobs that are final in another replica's event.
func (x *executor) dropFinished(finished []*jobs.Job) {
	x.observer.Event(jobs.DuplicateLost, len(finished))
	x.ack(finished...)
}

// acknowledge acks the jobs that are final and gives the others back. Once the lease is lost the
// others are somebody else's; an ack of a final job is right at any time.
func (x *executor) acknowledge(f *flight, s *jobs.Settlement) {
	held := f.move(stateSettled)
	final := make([]*jobs.Job, 0, len(s.Batch.Jobs))
	for i, j := range s.Batch.Jobs {
		if s.Rulings[i].Outcome.Final() {
			final = append(final, j)
		}
	}
	first := final[:min(len(final), 1)]
	x.ack(first...)
	x.probe(pointBetweenAcks)
	x.ack(final[len(first):]...)
	for i, j := range s.Batch.Jobs {
		if r := &s.Rulings[i]; held && !r.Outcome.Final() {
			x.nak(j, r.Delay)
		}
	}
}

// ack and nak only log a failure: without the settlement the broker delivers again, and the
// ledger shows what is left to do.
func (x *executor) ack(done ...*jobs.Job) {
	if len(done) == 0 {
		return
	}
	deliveries := make([]*jobs.Delivery, len(done))
	for i, j := range done {
		deliveries[i] = &j.Delivery
	}
	if err := x.settler.Ack(deliveries...); err != nil {
		x.log.Debug().Err(err).Str("uid", done[0].UID).Int("jobs", len(done)).Msg("acks not sent")
	}
}

func (x *executor) nak(j *jobs.Job, delay time.Duration) {
	if err := x.settler.Nak(&j.Delivery, delay); err != nil {
		x.log.Debug().Err(err).Str("uid", j.UID).Msg("nak not sent")
	}
}
