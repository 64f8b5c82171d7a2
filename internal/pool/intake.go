package pool

import (
	"context"
	"fmt"
	"sync"
	"time"

	"rollcall/internal/jobs"
)

// arrival is a job that was taken in, and whether it may be crashing its workers.
type arrival struct {
	job     *jobs.Job
	suspect bool
}

// oldest returns when the first of some arrivals, at least one, was received.
func oldest(chunk []arrival) time.Time {
	first := chunk[0].job.Received
	for _, a := range chunk {
		if a.job.Received.Before(first) {
			first = a.job.Received
		}
	}
	return first
}

// intake takes deliveries as long as there is room, decodes them and hands them to the
// dispatcher; the redelivered ones once it is known what the ledger says of them. It returns
// nil at the soft stop, or the error that ended the source.
func (p *Pool) intake(ctx, work context.Context, arrivals chan<- []arrival) error {
	defer close(arrivals)
	patience := ctx
	if p.cfg.AtMostOnce {
		patience = work // what has arrived cannot be given back, so it is worth waiting for room
	}
	// One look-up at a time, beside the intake: what is redelivered meanwhile waits together
	// for the next. Of capacity 1, and only this goroutine sends, after it emptied it.
	lookups := make(chan []*jobs.Job, 1)
	var reading sync.WaitGroup
	reading.Go(func() {
		for again := range lookups {
			if admitted := p.readmit(ctx, again); len(admitted) > 0 {
				arrivals <- admitted
			}
		}
	})
	defer reading.Wait()
	defer close(lookups)
	for {
		room, err := p.gate.wait(patience)
		if err != nil {
			return nil // the only error is the cause of the stop
		}
		deliveries, err := p.parts.Source.Receive(ctx, room)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("receive jobs: %w", err)
		}
		p.gate.take(deliveries)
		p.parts.Observer.Event(jobs.Received, len(deliveries))
		admitted, again := p.admit(deliveries)
		if len(admitted) > 0 {
			arrivals <- admitted
		}
		if len(again) > 0 {
			p.parts.Observer.Event(jobs.Redelivered, len(again))
			select {
			case waiting := <-lookups:
				again = append(waiting, again...)
			default:
			}
			lookups <- again
		}
	}
}

// admit decodes deliveries and separates first deliveries from redeliveries.
func (p *Pool) admit(deliveries []jobs.Delivery) (admitted []arrival, again []*jobs.Job) {
	decoded := make([]*jobs.Job, len(deliveries))
	admitted = make([]arrival, 0, len(deliveries))
	for i := range deliveries {
		decoded[i] = p.memory.job()
		decoded[i].Delivery = deliveries[i]
	}
	jobs.SetUIDs(decoded)
	for _, j := range decoded {
		j.Decode(p.cfg.JobMaxAge)
		if j.First() {
			admitted = append(admitted, arrival{job: j})
		} else {
			again = append(again, j)
		}
	}
	return admitted, again
}

// readmit looks up redelivered jobs, all pages in one request. Final jobs are acked and
// done with; jobs that may be crashing their workers become suspects.
func (p *Pool) readmit(ctx context.Context, again []*jobs.Job) (admitted []arrival) {
	records, err := p.load(ctx, again)
	if err != nil {
		p.refuse(ctx, again, err)
		return nil
	}
	var done []*jobs.Job
	for i, j := range again {
		j.Record = records[i]
		switch {
		case j.Record.Final:
			p.executor.ack(j)
			done = append(done, j)
		case j.Record.CrashLoop():
			j.Verdict = &jobs.Verdict{Outcome: jobs.Failed, Reason: jobs.ReasonCrashLoop}
			p.parts.Observer.Event(jobs.CrashLoops, 1)
			admitted = append(admitted, arrival{job: j})
		default:
			admitted = append(admitted, arrival{job: j, suspect: j.Verdict == nil && j.Record.Suspect(j.Delivered)})
		}
	}
	p.parts.Observer.Event(jobs.DuplicateRedelivered, len(done))
	p.gate.release(done)
	return admitted
}

// load reads the records of redelivered jobs. It waits no longer than the lease of the oldest
// lasts, nor than the soft stop allows.
func (p *Pool) load(ctx context.Context, again []*jobs.Job) ([]jobs.Record, error) {
	refs := make([]jobs.Ref, len(again))
	for i, j := range again {
		refs[i] = j.Ref
	}
	ctx, cancel := context.WithDeadline(ctx, again[0].Received.Add(p.parts.Lease()))
	defer cancel()
	return p.parts.Ledger.Load(ctx, refs)
}

// refuse releases jobs whose record could not be read. At the soft stop they are handed
// back; otherwise their lease has lapsed, and they are somebody else's.
func (p *Pool) refuse(ctx context.Context, again []*jobs.Job, err error) {
	if ctx.Err() != nil {
		p.handBack(again)
		return
	}
	p.parts.Log.Warn().Err(err).Int("jobs", len(again)).Msg("ledger could not be read in time; the jobs come back")
	p.parts.Observer.Event(jobs.LeaseLost, len(again))
	p.gate.release(again)
}
