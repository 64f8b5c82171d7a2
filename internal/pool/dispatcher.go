package pool

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rollcall/internal/jobs"
)

var errLeaseLost = errors.New("the lease could not be renewed in time")

// flight is a sealed batch with what the dispatcher needs to look after it.
type flight struct {
	batch *jobs.Batch
	// members are all jobs of the batch as it was sealed, even after some turned out to be
	// final elsewhere.
	members []*jobs.Job
	// lease is cancelled when the lease of the members is lost.
	lease context.Context
	lose  context.CancelCauseFunc
	// settled is set before the jobs that were not final elsewhere are acked or nakked: from
	// then on a delivery of one of the members is a new one, and no lease needs extending.
	settled atomic.Bool
	// called tells that the calls have ended and the slot was given back. They began at begun.
	called bool
	begun  time.Time
}

// step is what a worker reports of its flight: first that its calls have ended, then that
// it has ended altogether. A flight that ends without calls only does the latter.
type step struct {
	flight *flight
	ended  bool
}

// dispatcher owns the open and the sealed batches. Only the goroutine in run touches them.
type dispatcher struct {
	pool    *Pool
	work    context.Context
	batcher *Batcher
	// ready are sealed and wait for a slot, the oldest first.
	ready []*flight
	// running are those with a worker; calling of them hold a slot, the others settle.
	running map[*flight]struct{}
	calling int
	// callTime is how long the calls for a batch take, a moving average; 0 = not known.
	callTime time.Duration
	// alone tells that a suspect is being called for: nothing else may be, or a suspect that
	// kills the process would make suspects of others.
	alone   bool
	steps   chan step
	workers sync.WaitGroup
	cutOff  atomic.Bool
	// renewed is when every lease was last extended.
	renewed time.Time
}

func newDispatcher(p *Pool, work context.Context) *dispatcher {
	limits := Limits{
		Jobs: p.cfg.BatchSize, Bytes: int64(p.cfg.BatchBytes),
		Weight: p.cfg.MaxPayload / 3, Linger: p.cfg.BatchLinger,
	}
	return &dispatcher{
		pool: p, work: work, batcher: NewBatcher(limits, p.cfg.BatchKey, p.seal),
		running: map[*flight]struct{}{}, steps: make(chan step),
	}
}

// run returns when arrivals is closed and nothing is held any more. It reports whether any
// batch was cut off by the hard deadline.
func (d *dispatcher) run(arrivals <-chan []arrival) (cutOff bool) {
	linger := time.NewTimer(0)
	defer linger.Stop()
	leases := time.NewTicker(d.pool.cfg.AckWait / 3)
	defer leases.Stop()
	for arrivals != nil || len(d.running) > 0 {
		if d.takeOrSealIdle(&arrivals) {
			continue
		}
		d.setTimer(linger)
		select {
		case chunk, open := <-arrivals:
			d.take(&arrivals, chunk, open)
		case <-linger.C:
			d.enqueue(d.batcher.Due(d.spare(), time.Now()))
		case s := <-d.steps:
			d.advance(s)
		case <-leases.C:
			d.renew(time.Now())
		}
	}
	d.workers.Wait()
	return d.cutOff.Load()
}

// setTimer wakes the dispatcher when a linger ends. While no slot is free the batch goes on
// gathering: sealed now it would wait all the same, only less full.
func (d *dispatcher) setTimer(linger *time.Timer) {
	if due, any := d.batcher.Next(); any && d.spare() > 0 {
		linger.Reset(time.Until(due))
	} else {
		linger.Stop()
	}
}

// take adds a chunk, or begins the drain once arrivals is closed.
func (d *dispatcher) take(arrivals *<-chan []arrival, chunk []arrival, open bool) {
	if !open {
		*arrivals = nil
		d.drain()
		return
	}
	now := time.Now()
	for _, a := range chunk {
		switch {
		case d.holds(a.job):
			d.pool.worker.observer.Event(jobs.DuplicateHeld, 1)
			d.pool.gate.give([]*jobs.Job{a.job})
		case a.lone:
			d.enqueue([]*jobs.Batch{d.pool.seal([]*jobs.Job{a.job}, d.pool.cfg.BatchKey.Of(a.job), jobs.SealLone, now)})
		default:
			d.enqueue(d.batcher.Add(a.job, now))
		}
	}
}

// takeOrSealIdle seals open batches for which no further job is at hand, as far as slots are
// free to work on them; while none is, they go on gathering. It reports whether it took a
// chunk that was at hand.
func (d *dispatcher) takeOrSealIdle(arrivals *<-chan []arrival) bool {
	spare := d.spare()
	if d.pool.cfg.BatchLinger > 0 || spare <= 0 {
		return false
	}
	select {
	case chunk, open := <-*arrivals:
		d.take(arrivals, chunk, open)
		return true
	default:
		d.enqueue(d.batcher.Idle(spare, time.Now()))
		return false
	}
}

// holds reports whether another delivery of the same job is held. A first delivery never has
// a predecessor, so only the others are looked for.
func (d *dispatcher) holds(j *jobs.Job) bool {
	if j.First() {
		return false
	}
	same := func(held *jobs.Job) bool { return held.Ref == j.Ref }
	for f := range d.running {
		if !f.settled.Load() && slices.ContainsFunc(f.members, same) {
			return true
		}
	}
	for _, f := range d.ready {
		if slices.ContainsFunc(f.members, same) {
			return true
		}
	}
	found := false
	d.batcher.Open(func(members []*jobs.Job) bool {
		found = found || slices.ContainsFunc(members, same)
		return true
	})
	return found
}

func (d *dispatcher) enqueue(sealed []*jobs.Batch) {
	for _, b := range sealed {
		f := &flight{batch: b, members: b.Jobs}
		f.lease, f.lose = context.WithCancelCause(context.Background())
		d.ready = append(d.ready, f)
	}
	d.start()
}

// spare returns how many batches more than those that are ready may be called for now.
func (d *dispatcher) spare() int { return d.free() - len(d.ready) }

// free returns how many more batches may be called for.
func (d *dispatcher) free() int {
	if d.alone || d.pool.gate.backlogged() {
		return 0
	}
	return d.pool.cfg.BatchesInFlight - d.calling
}

// start gives free slots to ready batches. A suspect waits until no call is under way.
func (d *dispatcher) start() {
	for len(d.ready) > 0 && d.free() > 0 {
		f := d.ready[0]
		suspect := f.batch.Seal == jobs.SealLone
		if suspect && d.calling > 0 {
			return
		}
		d.alone = suspect
		d.ready = slices.Delete(d.ready, 0, 1)
		d.running[f] = struct{}{}
		d.calling++
		f.begun = time.Now()
		d.workers.Go(func() {
			if d.pool.worker.run(d.work, f, func() { d.steps <- step{flight: f} }) {
				d.cutOff.Store(true)
			}
			d.steps <- step{flight: f, ended: true}
		})
	}
}

// advance frees what a flight no longer needs: its slot once its calls have ended, and all
// that it holds when it has ended.
func (d *dispatcher) advance(s step) {
	f := s.flight
	if !f.called {
		f.called = true
		d.calling--
		d.alone = false // a suspect was the only one
		d.measure(time.Since(f.begun))
		d.pool.gate.settling(f.members, d.pool.cfg.ahead(d.callTime))
	}
	if s.ended {
		delete(d.running, f)
		f.lose(nil)
		d.pool.gate.settled(f.members)
	}
	d.start()
}

// callWindow is over how many batches callTime is averaged.
const callWindow = 8

func (d *dispatcher) measure(took time.Duration) {
	if d.callTime == 0 {
		d.callTime = took
		return
	}
	d.callTime += (took - d.callTime) / callWindow
}

// drain starts what still finds a free slot and hands the rest back, unless that would lose it:
// then the rest waits for slots.
func (d *dispatcher) drain() {
	d.enqueue(d.batcher.Drain(time.Now()))
	if d.pool.cfg.Once && d.work.Err() == nil {
		return
	}
	for _, f := range d.ready {
		f.lose(nil)
		d.pool.handBack(f.members)
	}
	d.ready = nil
}

// renew extends every lease. A lease that could not be extended for as long as it lasts is
// lost: the broker has given the jobs to somebody else, or will as soon as it is back.
func (d *dispatcher) renew(now time.Time) {
	if d.extendAll() {
		d.renewed = now
		return
	}
	lapsed := func(members []*jobs.Job) bool {
		since := d.renewed
		if received := members[0].Received; received.After(since) {
			since = received
		}
		return now.Sub(since) >= d.pool.cfg.AckWait
	}
	for f := range d.running {
		if lapsed(f.members) {
			f.lose(errLeaseLost)
		}
	}
	d.ready = slices.DeleteFunc(d.ready, func(f *flight) bool {
		return lapsed(f.members) && d.forget(f.members)
	})
	d.batcher.Open(func(members []*jobs.Job) (keep bool) {
		return !(lapsed(members) && d.forget(members))
	})
}

// forget lets go of unstarted jobs whose lease is lost.
func (d *dispatcher) forget(members []*jobs.Job) bool {
	d.pool.worker.observer.Event(jobs.LeaseLost, len(members))
	d.pool.gate.give(members)
	return true
}

// extendAll extends the lease of everything held and reports whether all went out.
func (d *dispatcher) extendAll() bool {
	ok := true
	extend := func(members []*jobs.Job) {
		for _, j := range members {
			ok = ok && d.pool.parts.Settler.Extend(&j.Delivery) == nil
		}
	}
	for f := range d.running {
		if !f.settled.Load() {
			extend(f.members)
		}
	}
	for _, f := range d.ready {
		extend(f.members)
	}
	d.batcher.Open(func(members []*jobs.Job) bool {
		extend(members)
		return true
	})
	return ok
}
