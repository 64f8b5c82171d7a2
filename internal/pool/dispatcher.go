package pool

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rollcall/internal/jobs"
)

// step is a report of an executor on its flight: first that the calls have ended, then that it
// has ended altogether. A flight that ends without calls only reports the latter.
type step struct {
	flight *flight
	ended  bool
	// kept are the bytes that its settlement takes beyond those of its jobs.
	kept int64
}

// dispatcher owns the open batches and the flights. Only the goroutine in run touches them.
type dispatcher struct {
	pool *Pool
	work context.Context
	// accounting ends a moment after the drain began: nobody waits for a broker that is away.
	accounting     context.Context
	stopAccounting context.CancelFunc
	batcher        *Batcher
	suspects       suspects
	// ready are sealed and wait for a slot, the oldest first.
	ready []*flight
	// flying are those with an executor; calling of them hold a slot.
	flying  map[*flight]struct{}
	calling int
	// group is the group of suspects being called for, until its end is recorded; nil if there is none.
	group *flight
	// inHand counts the jobs that are still to be called for.
	inHand int
	// held are all jobs up to the end of their flights.
	held held
	// callTime is how long the calls for a batch take, a moving average; 0 = not known.
	callTime time.Duration
	steps    chan step
	tasks    sync.WaitGroup
	cutOff   atomic.Bool
}

func newDispatcher(p *Pool, work context.Context) *dispatcher {
	limits := p.cfg.limits(p.parts.MaxPayload)
	accounting, stop := context.WithCancel(work)
	return &dispatcher{
		accounting: accounting, stopAccounting: stop,
		pool: p, work: work, batcher: NewBatcher(limits, p.cfg.BatchKey, p.newBatch),
		suspects: suspects{limits: limits, key: p.cfg.BatchKey},
		flying:   map[*flight]struct{}{}, steps: make(chan step),
	}
}

// run returns when arrivals is closed and nothing is held any more. It reports whether any
// batch was cut off by the hard deadline.
func (d *dispatcher) run(arrivals <-chan []arrival) (cutOff bool) {
	linger := time.NewTimer(0)
	defer linger.Stop()
	renewal := time.NewTimer(d.pool.parts.Lease() / 3)
	defer renewal.Stop()
	for arrivals != nil || len(d.flying) > 0 {
		if d.takeOrSealIdle(&arrivals) {
			continue
		}
		d.sealFull()
		d.setTimer(linger)
		select {
		case chunk, open := <-arrivals:
			d.admit(&arrivals, chunk, open)
		case <-linger.C:
			d.enqueue(d.batcher.Due(d.spare(), time.Now()))
		case s := <-d.steps:
			d.advance(s)
		case <-renewal.C:
			d.renew(time.Now())
			renewal.Reset(d.pool.parts.Lease() / 3)
		}
	}
	grace := time.AfterFunc(settleGrace, d.stopAccounting)
	d.tasks.Wait()
	grace.Stop()
	d.stopAccounting()
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

// admit adds a chunk, or begins the drain once arrivals is closed.
func (d *dispatcher) admit(arrivals *<-chan []arrival, chunk []arrival, open bool) {
	if !open {
		*arrivals = nil
		d.drain()
		return
	}
	now := time.Now()
	stale := d.pool.leases.over(oldest(chunk), now)
	for _, a := range chunk {
		d.inHand++
		known := d.holds(a.job)
		d.held.add(a.job)
		switch {
		case known:
			d.pool.parts.Observer.Event(jobs.DuplicateHeld, 1)
			d.forget([]*jobs.Job{a.job})
		case stale && d.pool.leases.over(a.job.Received, now):
			d.lose([]*jobs.Job{a.job})
		case a.suspect:
			d.suspects.add(a.job)
		default:
			d.enqueue(d.batcher.Add(a.job, now))
		}
	}
	d.start()
}

// takeOrSealIdle seals open batches for which no further job has arrived, as far as slots are free
// to work on them; while none is, they go on gathering. It reports whether it took a chunk that had
// arrived.
func (d *dispatcher) takeOrSealIdle(arrivals *<-chan []arrival) bool {
	spare := d.spare()
	if d.pool.cfg.BatchLinger > 0 || spare <= 0 {
		return false
	}
	select {
	case chunk, open := <-*arrivals:
		d.admit(arrivals, chunk, open)
		return true
	default:
		d.enqueue(d.batcher.Idle(spare, time.Now()))
		return false
	}
}

// sealFull seals the oldest open batches where nothing more can be taken in before something
// ends: waiting for their linger would only keep the slots idle.
func (d *dispatcher) sealFull() {
	if spare := d.spare(); spare > 0 && d.pool.gate.full(d.inHand) {
		d.enqueue(d.batcher.Full(spare, time.Now()))
	}
}

// holds reports whether another delivery of the same job is held. A first delivery never has
// a predecessor, so only the others are looked for.
func (d *dispatcher) holds(j *jobs.Job) bool {
	if j.First() || d.held.none(j) {
		return false
	}
	found := false
	d.everything(func(members []*jobs.Job) {
		found = found || slices.ContainsFunc(members, func(held *jobs.Job) bool { return held.Ref == j.Ref })
	})
	return found
}

// everything calls visit for all jobs that this replica has a claim to.
func (d *dispatcher) everything(visit func(members []*jobs.Job)) {
	for f := range d.flying {
		f.whileHeld(visit)
	}
	for _, f := range d.ready {
		visit(f.batch.Jobs)
	}
	for _, members := range d.batcher.Open() {
		visit(members)
	}
	visit(d.suspects.waiting)
}

func (d *dispatcher) enqueue(sealed []*jobs.Batch) {
	if len(sealed) == 0 {
		return
	}
	for _, b := range sealed {
		d.ready = append(d.ready, newFlight(b))
	}
	d.start()
}

// spare returns how many batches more than those that are ready may be called for now.
func (d *dispatcher) spare() int { return d.free() - len(d.ready) }

// free returns how many more batches may be called for.
func (d *dispatcher) free() int {
	if d.group != nil && d.group.alone || d.pool.gate.backlogged() {
		return 0
	}
	return d.pool.cfg.BatchesInFlight - d.calling
}

// start gives free slots to the flights and suspects that wait for them.
func (d *dispatcher) start() {
	for d.free() > 0 {
		now := time.Now()
		f, wait := d.nextGroup(now)
		if f == nil && !wait && len(d.ready) > 0 {
			f = d.ready[0]
			d.ready = slices.Delete(d.ready, 0, 1)
		}
		if f == nil {
			return
		}
		d.suspects.turn = f.suspect()
		if d.pool.leases.lapsed(f.batch.Jobs, now) {
			d.ground(f)
			continue
		}
		d.launch(f, now)
	}
}

// launch gives a slot to a flight.
func (d *dispatcher) launch(f *flight, now time.Time) {
	f.move(stateCalling)
	f.slot, f.begun = true, now
	d.flying[f] = struct{}{}
	d.calling++
	f.called = func(kept int64) { d.steps <- step{flight: f, kept: kept} }
	f.lost = d.account
	d.tasks.Go(func() {
		if d.pool.executor.run(d.work, f) {
			d.cutOff.Store(true)
		}
		d.steps <- step{flight: f, ended: true}
	})
}

// ground releases a flight that lost its lease before it was called for.
func (d *dispatcher) ground(f *flight) {
	f.move(stateLost)
	if d.group == f {
		d.group = nil
	}
	d.lose(f.batch.Jobs)
}

// advance frees what a flight no longer needs: its slot once its calls have ended, and all
// that it holds when it has ended.
func (d *dispatcher) advance(s step) {
	f := s.flight
	if f.slot {
		f.slot, f.kept = false, s.kept
		d.calling--
		d.inHand -= f.room.Jobs
		d.measure(time.Since(f.begun))
		d.pool.gate.called(f.room, f.kept, d.pool.cfg.ahead(d.callTime))
	}
	if s.ended {
		if d.group == f { // not before its end is recorded: the next group may crash the process
			d.group = nil
		}
		delete(d.flying, f)
		d.held.remove(f.batch.Jobs)
		f.end()
		d.pool.gate.ended(f.room, f.kept)
		if f.sheet != nil {
			d.pool.memory.free(f.spent, f.sheet)
		}
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

// drain starts the flights that still find a free slot and hands the rest back. In core mode nothing
// can be handed back: the rest waits for slots.
func (d *dispatcher) drain() {
	d.enqueue(d.batcher.Drain(time.Now()))
	if d.pool.cfg.AtMostOnce && d.work.Err() == nil {
		return
	}
	unstarted := d.suspects.drain()
	for _, f := range d.ready {
		f.move(stateReleased)
		f.end()
		unstarted = append(unstarted, f.batch.Jobs...)
	}
	d.ready = nil
	d.inHand -= len(unstarted)
	d.tasks.Go(func() { d.pool.handBack(unstarted) })
}
