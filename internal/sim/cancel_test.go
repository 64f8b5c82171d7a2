package sim_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
)

// cancelGrace is how long after its confirmation a replica that heard of a cancel may still begin
// a call for the job.
const cancelGrace = time.Second

// cancel is somebody who cancels some of the jobs that wait, as the command line does: a competing
// commit, then the message goes, then the replicas hear of it.
func (n *nemesis) cancel() {
	w := n.world
	name := fmt.Sprintf("operator-%d", n.dice.between(0, 3))
	view := &replica{world: w, name: name, dice: w.stream(fmt.Sprint(name, n.dice.between(0, 1<<30)))}
	view.generation.Store(w.generation.Load())
	if !n.dice.bad(500) {
		view.dice.world = &world{} // a line without faults; its calm is never asked for
		view.dice.world.calm.Store(true)
	}
	l := ledger.New(view, ledger.Config{
		Names: ledger.Names{Pool: "sim", Stream: "JOBS"}, EventSubject: bus.EventSubject,
		TTL: func() time.Duration { return 24 * time.Hour }, Lane: ledger.Lane(name),
	}, zerolog.Nop())
	alive := append([]*replica(nil), n.alive...)
	go func() {
		ctx, stop := context.WithTimeout(context.Background(), time.Minute)
		defer stop()
		running, end := context.WithCancel(context.Background())
		var committing, all sync.WaitGroup
		committing.Go(func() { _ = l.Run(running) })
		for _, d := range w.some(n.dice, 5) {
			all.Go(func() { cancelOne(ctx, w, l, name, d, alive) })
		}
		all.Wait()
		end()
		committing.Wait()
	}()
}

// some returns up to limit jobs of those that are in the stream.
func (w *world) some(d *dice, limit int) (out []jobs.Delivery) {
	w.mu.Lock()
	defer w.mu.Unlock()
	from := uint64(d.between(1, int(max(w.lastJob, 1))))
	for seq := from; seq <= w.lastJob && len(out) < limit; seq++ {
		if m := w.jobs[seq]; m != nil {
			out = append(out, m.delivery)
		}
	}
	return out
}

func cancelOne(ctx context.Context, w *world, l *ledger.Ledger, who string, d jobs.Delivery, replicas []*replica) {
	d.Received = time.Now()
	generation := w.generation.Load()
	j := jobs.Decode(d, 0)
	s := &jobs.Settlement{
		Batch: &jobs.Batch{
			ID: fmt.Sprintf("batch-%d", serial.Add(1)), Pool: "sim", Replica: who, Seal: jobs.SealCancel, SealedAt: w.now(), Jobs: []*jobs.Job{&j},
		},
		Rulings: []jobs.Ruling{{Outcome: jobs.Cancelled, Reason: jobs.ReasonCancelled}},
		Replies: make([]jobs.Replies, 1), SettledAt: w.now(),
	}
	s.EncodeEvent(1 << 20)
	if err := l.Commit(ctx, s); err != nil {
		if !errors.As(err, new(*jobs.ConflictError)) && ctx.Err() == nil {
			w.mu.Lock()
			w.violation("a cancel ended with %v", err)
			w.mu.Unlock()
		}
		return
	}
	if generation != w.generation.Load() {
		return // the connection has broken, and the broker may have lost the commit
	}
	w.ack(d.Ref)
	for _, r := range replicas {
		r.mu.Lock()
		deaf := r.paused != nil || r.dead.Load() || r.offline.Load()
		r.mu.Unlock()
		if !deaf {
			r.pool.Cancel([]jobs.Ref{d.Ref})
			w.heard(r.name, j.UID)
		}
	}
}

// heard notes that a replica has heard of a cancelled job.
func (w *world) heard(replica, uid string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancelled[replica+" "+uid] = time.Now()
}

// calledAfterCancel judges that a replica which has heard of a cancelled job calls nobody for it.
// The caller holds the lock.
func (w *world) calledAfterCancel(replica, service, uid string) {
	if at, heard := w.cancelled[replica+" "+uid]; heard && time.Since(at) > cancelGrace {
		w.violation("%s called %s for %s, %v after it heard that somebody cancelled it", replica, service, uid, time.Since(at))
	}
}
