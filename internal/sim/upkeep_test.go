package sim_test

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/history"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
)

const (
	// ledgerTTL is what replicas need; a pause of the pool may be longer.
	ledgerTTL = 10 * time.Minute
	// longHorizon is that of the replicas that are stalled now and then, shortHorizon that of
	// those a deploy has brought, which are not.
	longHorizon  = 5 * time.Minute
	shortHorizon = 45 * time.Second
)

var errLookFirst = errors.New("the broker was not looked at since the reconnect")

// retention draws how long a replica needs the ledger.
func (r *replica) retention() ledger.Retention {
	if r.stallable = r.dice.between(0, 2) > 0; r.stallable {
		return ledger.Retention{Horizon: longHorizon, TTL: ledgerTTL}
	}
	return ledger.Retention{Horizon: shortHorizon, TTL: ledgerTTL}
}

// Floor implements ledger.Upkeep.
func (r *replica) Floor(ctx context.Context) (ledger.Floor, error) {
	asked := r.wall()
	if err := r.pass(ctx, toRead, toHear); err != nil {
		return ledger.Floor{}, err
	}
	floor := r.world.floor()
	r.dated(asked, floor.Now)
	return floor, nil
}

// Newest implements ledger.Upkeep.
func (r *replica) Newest(ctx context.Context, filter string) (ledger.Entry, error) {
	if err := r.pass(ctx, toRead, toHear); err != nil {
		return ledger.Entry{}, err
	}
	return r.world.newest(filter), nil
}

// Purge implements ledger.Upkeep.
func (r *replica) Purge(ctx context.Context, filter string) (uint64, error) {
	if err := r.pass(ctx, toRead, toHear); err != nil {
		return 0, err
	}
	return r.world.purge(filter), nil
}

// reconnect is what a worker does when the broker has come back, perhaps older: until it has
// looked, nothing of it reaches the broker.
func (r *replica) reconnect() {
	time.Sleep(r.dice.upTo(3 * time.Second))
	if r.step() != nil {
		return
	}
	generation := r.world.generation.Load()
	at := time.Now()
	r.since.Store(at.UnixNano())
	r.ledger.Restart(at)
	r.sets.Restart()
	r.pool.Restart()
	r.generation.Store(generation)
}

// looked returns an error if the broker that is there is not of the generation that the replica had
// looked at.
func (r *replica) looked(generation int64) error {
	if generation != r.world.generation.Load() {
		return errLookFirst
	}
	return nil
}

// mayBeSent returns an error if a settlement must not reach the broker now, or ever.
func (r *replica) mayBeSent(received time.Time) error {
	if err := r.looked(r.generation.Load()); err != nil {
		return err
	}
	if received.UnixNano() < r.since.Load() {
		return ledger.ErrSetBack
	}
	return nil
}

func (w *world) floor() ledger.Floor {
	w.mu.Lock()
	defer w.mu.Unlock()
	floor := ledger.Floor{Created: w.created, Seq: w.lastJob, Now: w.now()}
	for seq := range w.jobs {
		floor.Seq = min(floor.Seq, seq-1)
	}
	return floor
}

// scan reads what matches filter, the oldest first.
func (w *world) scan(filter string, from uint64) (out []ledger.Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	match := func(subject string) {
		if e := w.pages[subject]; e.Seq >= from && ledgertest.Matches(filter, subject) && w.live(subject) {
			out = append(out, e)
		}
	}
	if isTally(filter) {
		for subject := range w.tallies {
			match(subject)
		}
	} else {
		for subject := range w.pages {
			match(subject)
		}
	}
	slices.SortFunc(out, func(a, b ledger.Entry) int { return cmp.Compare(a.Seq, b.Seq) })
	return out
}

// live removes a message whose time is over, and reports whether there is one. The caller holds
// the lock.
func (w *world) live(subject string) bool {
	if ends, limited := w.ends[subject]; limited && !time.Now().Before(ends) {
		delete(w.pages, subject)
		delete(w.ends, subject)
		delete(w.tallies, subject)
	}
	return w.pages[subject].Seq > 0
}

func (w *world) newest(filter string) (newest ledger.Entry) {
	for _, e := range w.scan(filter, 0) {
		newest = e
	}
	return newest
}

func (w *world) purge(filter string) uint64 {
	found := w.scan(filter, 0)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range found {
		delete(w.pages, e.Subject)
		delete(w.ends, e.Subject)
	}
	return uint64(len(found))
}

// neighbour is a pool of the same name on another, newer stream. All that it does is to sweep.
type neighbour struct{ *world }

// Apply implements ledger.Store.
func (n neighbour) Apply(_ context.Context, writes []ledger.Write) (uint64, error) {
	return n.apply(writes, nil)
}

// Read implements ledger.Store.
func (n neighbour) Read(_ context.Context, subjects []string) ([]ledger.Entry, error) {
	return n.read(subjects), nil
}

// Floor implements ledger.Upkeep.
func (n neighbour) Floor(context.Context) (ledger.Floor, error) {
	return ledger.Floor{Created: n.now(), Seq: 1 << 40, Now: n.now()}, nil
}

// Scan implements ledger.Upkeep.
func (n neighbour) Scan(_ context.Context, filter string, from uint64) ([]ledger.Entry, error) {
	return n.scan(filter, from), nil
}

// Newest implements ledger.Upkeep.
func (n neighbour) Newest(_ context.Context, filter string) (ledger.Entry, error) {
	return n.newest(filter), nil
}

// Purge implements ledger.Upkeep.
func (n neighbour) Purge(_ context.Context, filter string) (uint64, error) {
	return n.purge(filter), nil
}

// runNeighbour sweeps until the returned function is called.
func (w *world) runNeighbour() (stop func()) {
	names := ledger.Names{Pool: "sim", Stream: "OTHER"}
	retentions := ledger.NewRetentions(neighbour{w}, names, ledger.Retention{Horizon: 4 * time.Second, TTL: time.Minute})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		_ = ledger.NewSweeper(neighbour{w}, names, retentions, zerolog.Nop()).Run(ctx) // returns nil always
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// snapshot is a copy of what the broker holds, with what was seen of it by then.
type snapshot struct {
	jobs              map[uint64]message
	lastJob, lastPage uint64
	pages             map[string]ledger.Entry
	ends              map[string]time.Time
	tallies           map[string]struct{}
	accepted          []history.Job
	events            []history.Event
	okAt, endedAt     map[string]time.Time
	letters           map[string]bool
	dead              []string
	sets              map[string]int
	epoch             string
	created           time.Time
}

func (w *world) snapshot() *snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &snapshot{
		jobs: map[uint64]message{}, lastJob: w.lastJob, lastPage: w.lastPage, pages: maps.Clone(w.pages), ends: maps.Clone(w.ends),
		tallies: maps.Clone(w.tallies), accepted: slices.Clone(w.history.Accepted), events: slices.Clone(w.history.Events),
		okAt: maps.Clone(w.okAt), endedAt: maps.Clone(w.endedAt), letters: maps.Clone(w.letters), dead: slices.Clone(w.history.DeadLetters),
		sets: map[string]int{}, epoch: w.epoch, created: w.created,
	}
	for seq, m := range w.jobs {
		s.jobs[seq] = *m
	}
	for name, set := range w.sets {
		s.sets[name] = len(set.events)
	}
	return s
}

// setBack makes the broker what it was at a snapshot. Jobs that were accepted since are lost, and
// their numbers will be given again.
func (n *nemesis) setBack(s *snapshot) {
	w := n.world
	w.mu.Lock()
	w.jobs = map[uint64]*message{}
	for seq, m := range s.jobs {
		w.jobs[seq] = &m
	}
	w.lastJob, w.lastPage, w.pages, w.ends, w.tallies = s.lastJob, s.lastPage, s.pages, s.ends, s.tallies
	w.history.Accepted, w.history.Events, w.history.DeadLetters = s.accepted, s.events, s.dead
	w.okAt, w.endedAt, w.letters, w.epoch, w.created = s.okAt, s.endedAt, s.letters, s.epoch, s.created
	known := map[string]bool{}
	for _, j := range w.history.Accepted {
		known[j.UID+j.ID] = true
	}
	w.history.Calls = slices.DeleteFunc(w.history.Calls, func(c history.Call) bool { return !known[c.UID+c.ID] })
	for name, set := range w.sets {
		events, old := s.sets[name]
		if !old {
			w.lostSets[name] = true
			continue
		}
		set.events = set.events[:events]
	}
	clear(w.cancelled)
	w.setBackAt = time.Now()
	w.generation.Add(1)
	w.wake()
	w.mu.Unlock()
	for _, r := range slices.Concat(n.alive, n.gone) {
		go r.reconnect()
	}
}

// recreate deletes the job stream and makes it again. What waited is lost; what is in hand may
// still end.
func (w *world) recreate() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.jobs {
		w.excused[m.delivery.Ref.UID()] = true
		for name, set := range w.sets {
			if set.members[m.delivery.Ref.UID()] {
				w.lostSets[name] = true
			}
		}
	}
	w.jobs, w.lastJob = map[uint64]*message{}, 0
	w.created = w.now()
	w.epoch = jobs.Epoch(w.created)
	w.wake()
}

// hold stops all deliveries for longer than the ledger's life. An ack that was lost is not distinguished
// from new work after that, so those arrive meanwhile.
func (w *world) hold() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heldUntil = time.Now().Add(ledgerTTL + 5*time.Minute)
	time.AfterFunc(ledgerTTL/2, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for seq, m := range w.jobs {
			if !w.endedAt[m.delivery.Ref.UID()].IsZero() {
				delete(w.jobs, seq)
			}
		}
	})
}

// skip leaves numbers of the stream to jobs of other pools, so that buckets of pages are passed.
func (w *world) skip(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lastJob += uint64(n)
}
