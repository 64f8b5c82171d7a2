package sim_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rollcall/internal/history"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
)

const ackWait = 30 * time.Second

// world is the truth: the job stream with its consumer, the ledger's stream, and what the
// history is judged by. Replicas only reach it through a view.
type world struct {
	seed uint64

	// disturbances are what replicas suffered, alone the calls for one job, by uid.
	disturbances []disturbance
	alone        map[string][]loneRun

	mu       sync.Mutex
	jobs     map[uint64]*message
	lastJob  uint64
	changed  chan struct{}
	pages    map[string]ledger.Entry
	lastPage uint64
	history  history.History
	// okAt and endedAt are since when the ledger has known of a success and of an end.
	okAt    map[string]time.Time
	endedAt map[string]time.Time
	letters map[string]bool
	// bodies are those of all jobs, by uid.
	bodies map[string]string
	sets   map[string]*set
	// cancels are the jobs that ended cancelled: between the commit and the removal of the message
	// one may be delivered for the first time.
	cancels map[string]bool
	// cancelled is when a replica heard of a cancelled job, by both their names.
	cancelled map[string]time.Time
	// tallies are the subjects of pages that belong to sets.
	tallies map[string]struct{}
	broken  []string
	// refusals are services that refuse everybody right now.
	refusals refusals
	// epoch of the job stream, which was created then.
	epoch   string
	created time.Time
	// published counts jobs, also over streams that were recreated or set back.
	published int
	// ends says when messages of pages are removed.
	ends map[string]time.Time
	// generation counts how often the broker was set back, the last time at setBackAt.
	generation atomic.Int64
	setBackAt  time.Time
	// heldUntil is the end of a pause of all deliveries.
	heldUntil time.Time
	// excused jobs and lost sets went with their stream.
	excused, lostSets map[string]bool
	// ahead is how far the broker's clock is ahead of that of this machine, maxAge the greatest age
	// of a job, 0 = any.
	ahead, maxAge time.Duration
	// publishedAt and deadlines are of jobs, begun of batches, by the broker's clock.
	publishedAt, deadlines, begun map[string]time.Time
	// margins are what the broker's replies leave open of its clock, by replica.
	margins map[string]time.Duration
	// calm turns every fault off.
	calm atomic.Bool
}

// message is a job in the stream.
type message struct {
	delivery jobs.Delivery
	// due is when it may be delivered (again), in Unix nanoseconds: an outage looks at it some hundred
	// million times.
	due int64
}

func newWorld(seed uint64) *world {
	w := &world{
		refusals:    newRefusals(),
		publishedAt: map[string]time.Time{}, deadlines: map[string]time.Time{}, begun: map[string]time.Time{}, margins: map[string]time.Duration{}, ends: map[string]time.Time{}, excused: map[string]bool{}, lostSets: map[string]bool{},
		seed: seed, jobs: map[uint64]*message{}, changed: make(chan struct{}), pages: map[string]ledger.Entry{},
		okAt: map[string]time.Time{}, endedAt: map[string]time.Time{}, letters: map[string]bool{}, bodies: map[string]string{}, alone: map[string][]loneRun{}, sets: map[string]*set{}, tallies: map[string]struct{}{}, cancelled: map[string]time.Time{}, cancels: map[string]bool{},
	}
	clock := w.stream("clock")
	if w.ahead = clock.skew(); clock.between(0, 3) == 0 {
		w.maxAge = shortAge
	}
	w.created = w.now()
	w.epoch = jobs.Epoch(w.created)
	return w
}

// stream returns the random numbers of one actor.
func (w *world) stream(actor string) *dice {
	h := fnv.New64a()
	_, _ = h.Write([]byte(actor))
	return &dice{world: w, rand: rand.New(rand.NewPCG(w.seed, h.Sum64()))}
}

// dice are safe for concurrent use and fall on nothing bad once the world is calm.
type dice struct {
	world *world
	mu    sync.Mutex
	rand  *rand.Rand
}

// bad reports true with probability p per mille.
func (d *dice) bad(p int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	hit := d.rand.IntN(1000) < p
	return hit && !d.world.calm.Load()
}

func (d *dice) upTo(limit time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Duration(d.rand.Int64N(int64(limit) + 1))
}

func (d *dice) between(low, high int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return low + d.rand.IntN(high-low+1)
}

func (d *dice) shuffle(out []jobs.Delivery) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rand.Shuffle(len(out), func(i, k int) { out[i], out[k] = out[k], out[i] })
}

// violation notes a broken promise that only the world can see.
func (w *world) violation(format string, args ...any) {
	w.broken = append(w.broken, fmt.Sprintf(format, args...))
}

func (w *world) wake() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// publish accepts jobs, as a producer with a PubAck sees it. change may add to their headers; nil
// = as they are.
func (w *world) publish(bodies []string, change func(i int, d *jobs.Delivery)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, body := range bodies {
		w.lastJob++
		w.published++
		ref, source := jobs.Ref{Epoch: w.epoch, Seq: w.lastJob}, "/rollcall/JOBS/"+w.epoch
		d := jobs.Delivery{
			Data: []byte(body), Reply: "$JS.ACK", Source: source, Ref: ref,
			Header:    map[string][]string{jobs.HeaderMsgID: {fmt.Sprintf("id-%d", w.published)}},
			Published: w.now(),
		}
		hostile(&d)
		w.bodies[ref.UID()] = body
		if change != nil {
			change(i, &d)
		}
		w.born(&d)
		w.jobs[w.lastJob] = &message{delivery: d}
		w.history.Accepted = append(w.history.Accepted, history.Job{UID: ref.UID(), ID: d.Header[jobs.HeaderMsgID][0], Source: source})
	}
	w.wake()
}

// deliver hands out the jobs that are due, as many as room holds, at least one, each for lease; it waits for the first.
func (w *world) deliver(ctx context.Context, room jobs.Room, lease func() time.Duration) ([]jobs.Delivery, error) {
	for {
		w.mu.Lock()
		out, next := w.takeDue(room, lease)
		changed := w.changed
		w.mu.Unlock()
		if len(out) > 0 {
			return out, nil
		}
		timer := time.NewTimer(next)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		}
		timer.Stop()
	}
}

func (w *world) takeDue(room jobs.Room, lease func() time.Duration) (out []jobs.Delivery, next time.Duration) {
	now, next := time.Now(), time.Hour
	if wait := w.heldUntil.Sub(now); wait > 0 {
		return nil, wait
	}
	var due []uint64
	nanos := now.UnixNano()
	for seq, m := range w.jobs {
		if wait := m.due - nanos; wait > 0 {
			next = min(next, time.Duration(wait))
			continue
		}
		due = append(due, seq)
	}
	slices.Sort(due)
	for _, seq := range due {
		m := w.jobs[seq]
		if room.Bytes -= m.delivery.Size(); len(out) == room.Jobs || len(out) > 0 && room.Bytes < 0 {
			return out, next
		}
		m.delivery.Delivered++
		m.due = now.Add(lease()).UnixNano()
		d := m.delivery
		d.Received = now
		out = append(out, d)
	}
	return out, next
}

// ack removes a job. Settlements of another epoch are dropped.
func (w *world) ack(ref jobs.Ref) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ref.Epoch == w.epoch {
		delete(w.jobs, ref.Seq)
		w.wake()
	}
}

// postpone sets when the job is delivered again: a nak's delay, or the lease after an extension.
// Like the server, it does not ask who holds the job now.
func (w *world) postpone(ref jobs.Ref, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m := w.jobs[ref.Seq]; m != nil && ref.Epoch == w.epoch {
		due := time.Now().Add(d).UnixNano()
		earlier := due < m.due
		if m.due = due; earlier {
			w.wake()
		}
	}
}

func (w *world) waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.jobs)
}

// apply is the broker's atomic publish. allowed is asked at the moment of it; nil = yes.
func (w *world) apply(writes []ledger.Write, allowed func() error) (first uint64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if allowed != nil {
		if err := allowed(); err != nil {
			return 0, fmt.Errorf("%w: %w", ledger.ErrBusy, err)
		}
	}
	seen := map[string]bool{}
	for _, wr := range writes {
		if seen[wr.Subject] {
			w.violation("subject %s stands twice in a group", wr.Subject)
		}
		seen[wr.Subject] = true
		if w.live(wr.Subject); w.pages[wr.Subject].Seq != wr.Expect {
			return 0, ledger.ErrStale
		}
	}
	if len(writes) > 1000 {
		w.violation("a group of %d messages", len(writes))
	}
	first = w.lastPage + 1
	for _, wr := range writes {
		w.lastPage++
		w.pages[wr.Subject] = ledger.Entry{Subject: wr.Subject, Seq: w.lastPage, Stored: w.now(), Data: slices.Clone(wr.Data)}
		if delete(w.ends, wr.Subject); wr.TTL > 0 {
			w.ends[wr.Subject] = time.Now().Add(wr.TTL)
		}
		if isTally(wr.Subject) {
			w.tallies[wr.Subject] = struct{}{}
		}
		if strings.HasPrefix(wr.Subject, "done.batches.") {
			w.stored(wr.Data)
		}
	}
	for _, wr := range writes {
		if isSetEvent(wr.Subject) {
			w.setEnded(wr.Subject, wr.Data)
		}
	}
	return first, nil
}

// stored notes a committed event.
func (w *world) stored(data []byte) {
	e, err := jobs.DecodeEvent(data)
	if err != nil {
		w.violation("unreadable event: %v", err)
		return
	}
	w.datedEvent(&e)
	now := time.Now()
	w.history.Events = append(w.history.Events, history.Event{Event: e, Stored: now})
	for _, j := range e.Data.Jobs {
		w.charged(&j)
		for service, status := range j.Services {
			if key := j.UID + " " + service; status == "ok" && w.okAt[key].IsZero() {
				w.okAt[key] = now
			}
		}
		if j.Outcome == jobs.Cancelled {
			w.cancels[j.UID] = true
		}
		if j.Final() && w.endedAt[j.UID].IsZero() {
			w.endedAt[j.UID] = now
			w.blamed(e.Data.Replica, &j)
		}
	}
}

func (w *world) read(subjects []string) (out []ledger.Entry) {
	if len(subjects) > 0 && strings.HasSuffix(subjects[0], ".*") {
		for _, filter := range subjects {
			out = append(out, w.scan(filter, 1)...)
		}
		return out
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range subjects {
		if w.live(s) {
			out = append(out, w.pages[s])
		}
	}
	return out
}

// called notes that a service was called. A success or an end that was stored before the
// delivery was handed out must have been seen in the ledger. The call began by the broker's clock
// at begun.
func (w *world) called(replica, service string, begun time.Time, c *jobs.Call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.late(replica, begun, c)
	if len(c.Jobs) == 1 {
		w.calledAlone(replica, c)
	}
	for _, j := range c.Jobs {
		if j.Received.Before(w.setBackAt) {
			continue // of data that the broker has lost
		}
		w.history.Calls = append(w.history.Calls, history.Call{Service: service, UID: j.UID, ID: j.ID, Source: j.Source, Received: time.Now()})
		w.calledAfterCancel(replica, service, j.UID)
		if at := w.okAt[j.UID+" "+service]; !at.IsZero() && at.Before(j.Received) {
			w.violation("%s was called for %s, delivered %s after its success was stored", service, j.UID, j.Received.Sub(at))
		}
		if at := w.endedAt[j.UID]; !at.IsZero() && at.Before(j.Received) && !w.cancels[j.UID] {
			w.violation("%s was called for %s, delivered %s after it had ended", service, j.UID, j.Received.Sub(at))
		}
	}
}

func (w *world) buried(letters []jobs.DeadLetter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range letters {
		if key := l.Job.UID + "." + l.BatchID; !w.letters[key] && !l.Job.Received.Before(w.setBackAt) {
			w.letters[key] = true
			w.history.DeadLetters = append(w.history.DeadLetters, l.Job.UID)
		}
	}
}

// violations returns everything that went wrong. No replica was calm, and every call was judged
// when it was made, so the history is not asked about those.
func (w *world) violations() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history.AtRest = true
	w.history.Grace = 1 << 62
	broken := append(slices.Clone(w.broken), w.setVerdict()...)
	for _, v := range w.history.Violations() {
		if v.Rule == history.Lost && w.excused[v.UID] {
			continue
		}
		broken = append(broken, v.String())
	}
	return broken
}
