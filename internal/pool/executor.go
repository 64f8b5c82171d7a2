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

// executor lives one batch's life: call, rule, commit, ack. It is shared by all slots and
// holds no state of a batch.
type executor struct {
	services    []Service
	specs       []jobs.Spec
	policy      jobs.Policy
	settler     Settler
	ledger      Ledger
	deadLetters DeadLetters
	observer    Observer
	log         zerolog.Logger
	leases      *leases
	cancelled   *cancelled
	maxPayload  func() int
	// noData keeps what services return out of events.
	noData bool
	now    func() time.Time
	probe  func(point string)
	// bodies and events are memory of encoded calls and events that can be used again.
	bodies, events buffers
	memory         *memory
}

// run takes a flight from its slot to its end. work is cancelled at the hard deadline, the
// flight's lease when it is lost. It reports whether the batch was cut off by the deadline.
func (x *executor) run(work context.Context, f *flight) (cutOff bool) {
	ctx, stop := context.WithCancelCause(work)
	defer stop(nil)
	defer context.AfterFunc(f.lease, func() { stop(context.Cause(f.lease)) })()

	ctx, ended := x.observer.Batch(ctx, f.batch)
	end := jobs.BatchEnd{Result: jobs.BatchAborted}
	defer func() { ended(end) }()

	settling, release := settleContext(ctx, f.lease)
	defer release()

	batch, err := x.begin(settling, f)
	batch = x.dropCancelled(batch)
	switch {
	case err != nil:
		f.move(stateSettling)
		return x.giveUp(work, settling, f, batch.Jobs, err)
	case len(batch.Jobs) == 0:
		end.Result = jobs.BatchSuperseded
		return false
	}
	if x.leases.lapsed(batch.Jobs, time.Now()) {
		f.move(stateLost)
		return x.giveUp(work, settling, f, batch.Jobs, errLeaseLost)
	}
	x.route(batch.Jobs, x.now())
	results := x.fanOut(ctx, batch)
	f.move(stateSettling)
	if ctx.Err() != nil && !x.conclusive(batch, results) {
		f.called(0)
		return x.giveUp(work, settling, f, batch.Jobs, context.Cause(ctx))
	}
	on := x.memory.sheet(len(batch.Jobs), len(results))
	s := x.rule(batch, results, on)
	f.called(s.DataSize())
	if s = x.withoutCancelled(s); len(s.Batch.Jobs) == 0 {
		f.move(stateSettled)
		end.Result = jobs.BatchSuperseded
		return false
	}
	if err := x.bury(settling, s); err != nil {
		return x.giveUp(work, settling, f, s.Batch.Jobs, err)
	}
	dropBodies(batch.Jobs)
	if s.Idle() {
		end.Result = x.wait(settling, f, s)
		return false
	}
	var rest []*jobs.Job
	if end, rest, err = x.commit(settling, f, s); err != nil {
		return x.giveUp(work, settling, f, rest, err)
	}
	if end.Result == jobs.BatchCommitted {
		f.spent, f.sheet = end.Settlement.Batch.Jobs, on
	}
	return false
}

// dropBodies lets go of bodies that no call and no dead letter will need: many batches may wait for
// their commit.
func dropBodies(members []*jobs.Job) {
	for _, j := range members {
		j.Data, j.Body = nil, nil
	}
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

// begin records that a group of suspects is about to be called for, before it can crash this
// process. It returns the batch without the jobs that turned out to be final.
func (x *executor) begin(ctx context.Context, f *flight) (*jobs.Batch, error) {
	if !f.suspect() {
		return f.batch, nil
	}
	x.observer.Event(jobs.LoneRuns, 1)
	n := len(f.batch.Jobs)
	rest, finished, err := x.mark(ctx, f.batch, func(j *jobs.Job) (jobs.Mark, bool) {
		m := jobs.Mark{Ref: j.Ref, Lone: j.Record.Lone, Group: max(n/2, 1)}
		if n == 1 {
			m.Lone++
		}
		return m, true
	})
	x.dropFinished(finished)
	return rest, err
}

// dropCancelled acks the jobs that were cancelled and returns the batch without them.
func (x *executor) dropCancelled(b *jobs.Batch) *jobs.Batch {
	marked := x.cancelled.mark(b.Jobs)
	if marked == nil {
		return b
	}
	rest, gone := b.Without(marked)
	x.dropFinished(gone)
	return rest
}

// withoutCancelled acks the jobs of a settlement that were cancelled meanwhile and returns the rest.
func (x *executor) withoutCancelled(s *jobs.Settlement) *jobs.Settlement {
	marked := x.cancelled.mark(s.Batch.Jobs)
	if marked == nil {
		return s
	}
	rest, gone := s.Without(marked)
	x.dropFinished(gone)
	return rest
}

// mark changes the records of the jobs of a batch without an event. It returns the batch without
// those that are final elsewhere, and these.
func (x *executor) mark(ctx context.Context, b *jobs.Batch, of func(*jobs.Job) (jobs.Mark, bool)) (rest *jobs.Batch, finished []*jobs.Job, err error) {
	for {
		var marks []jobs.Mark
		var at []int
		for i, j := range b.Jobs {
			if m, due := of(j); due {
				marks, at = append(marks, m), append(at, i)
			}
		}
		if len(marks) == 0 {
			return b, finished, nil
		}
		err := x.ledger.Mark(ctx, marks)
		var conflict *jobs.ConflictError
		if !errors.As(err, &conflict) {
			return b, finished, err
		}
		final := make([]bool, len(b.Jobs))
		for k, i := range at {
			final[i] = conflict.Final[k]
		}
		var dropped []*jobs.Job
		b, dropped = b.Without(final)
		finished = append(finished, dropped...)
	}
}

// account records, without an event, that deliveries ended while this process was alive. Such ends
// do not make their jobs suspects. A missing record does harm only several times in a row, so jobs
// that are far from that cost no write. It returns the jobs that
// are open, and those that turned out to be final elsewhere.
func (x *executor) account(ctx context.Context, members []*jobs.Job) (open, finished []*jobs.Job) {
	rest, finished, err := x.mark(ctx, &jobs.Batch{Jobs: members}, func(j *jobs.Job) (jobs.Mark, bool) {
		m := jobs.Mark{Ref: j.Ref, Seen: j.Delivered, Lone: j.Record.Lone, Group: j.Record.Group}
		return m, j.Record.Suspect(j.Delivered + 1)
	})
	if err != nil {
		x.log.Debug().Err(err).Int("jobs", len(members)).Msg("ends of deliveries could not be recorded")
	}
	return rest.Jobs, finished
}

// accountPatience is how long the broker is waited for to account for lost leases.
const accountPatience = 5 * time.Minute

// accountLater returns a function that accounts for jobs whose lease is lost: the broker is away, or
// was. It may wait for long, and holds what it needs of the jobs only, not their bodies.
func (x *executor) accountLater(ctx context.Context, members []*jobs.Job) (wait func()) {
	names := make([]*jobs.Job, len(members))
	for i, j := range members {
		names[i] = &jobs.Job{Delivery: jobs.Delivery{Ref: j.Ref, UID: j.UID, Delivered: j.Delivered}, Record: j.Record}
	}
	return func() {
		ctx, cancel := context.WithTimeout(ctx, accountPatience)
		defer cancel()
		x.account(ctx, names)
	}
}

// conclusive reports whether every called service gave a reply of its own in time, so that
// the batch can be settled although its context has ended.
func (x *executor) conclusive(b *jobs.Batch, results []serviceResult) bool {
	for i := range results {
		if results[i].err != "" || (results[i].replies == nil && len(x.missing(b.Jobs, i)) > 0) {
			return false
		}
	}
	return true
}

// giveUp releases jobs without an event. At the hard deadline they are handed back at once;
// where the broker refuses the commit they come back after a back-off, by their deliveries since
// no attempt was recorded. After a lost lease they are somebody else's, and a nak would take them
// away again. None of these ends makes them suspects.
func (x *executor) giveUp(work, settling context.Context, f *flight, members []*jobs.Job, cause error) (cutOff bool) {
	if x.leases.lapsed(members, time.Now()) {
		f.move(stateLost)
	}
	if !f.move(stateReleased) {
		f.lost(members)
		return false
	}
	cutOff = work.Err() != nil
	if !cutOff {
		x.log.Warn().Err(cause).Str("batch_id", f.batch.ID).Int("jobs", len(members)).Msg("batch given up uncommitted; its jobs come back")
	}
	open, finished := x.account(settling, members)
	x.dropFinished(finished)
	for _, j := range open {
		if cutOff {
			x.nak(j, 0)
		} else {
			x.nak(j, x.policy.Backoff(j.Record.Waits(j.Delivered)))
		}
	}
	return cutOff && len(open) > 0
}

// wait gives back jobs of which nothing was learnt, because a service holds them back. There is
// no event; each comes back after a time that grows with how often that has happened.
func (x *executor) wait(ctx context.Context, f *flight, s *jobs.Settlement) jobs.BatchResult {
	rulings := make(map[*jobs.Job]*jobs.Ruling, len(s.Rulings))
	for i, j := range s.Batch.Jobs {
		rulings[j] = &s.Rulings[i]
	}
	rest, finished, err := x.mark(ctx, s.Batch, func(j *jobs.Job) (jobs.Mark, bool) {
		seen, due := j.Record.Credit(j.Delivered)
		group := rulings[j].Group
		return jobs.Mark{Ref: j.Ref, Seen: seen, Lone: j.Record.Lone, Group: group}, due || group != j.Record.Group
	})
	if err != nil {
		x.log.Debug().Err(err).Str("batch_id", s.Batch.ID).Msg("ends of deliveries could not be recorded")
	}
	x.dropFinished(finished)
	if x.leases.lapsed(rest.Jobs, time.Now()) {
		f.move(stateLost)
	}
	if !f.move(stateSettled) {
		f.lost(rest.Jobs)
		return jobs.BatchAborted
	}
	x.observer.Event(jobs.Waited, len(rest.Jobs))
	for _, j := range rest.Jobs {
		x.nak(j, rulings[j].Delay)
	}
	return jobs.BatchWaiting
}
