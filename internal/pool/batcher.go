package pool

import (
	"slices"
	"time"

	"rollcall/internal/jobs"
)

// Limits say when a batch is full.
type Limits struct {
	// Jobs in a batch.
	Jobs int
	// Bytes of bodies in a batch. A single larger job makes a batch of its own.
	Bytes int64
	// Weight returns the bound of the sum of [jobs.EntryWeight], so that the event of the batch fits.
	Weight func() int
	// Messages that the commit of the batch may need: pages, tallies of sets and the event.
	Messages int
	// Linger is how long a batch stays open since its first job; 0 = until Idle is called.
	Linger time.Duration
}

// Batcher gathers jobs into batches by key. It is a pure policy: it holds no timer and starts
// no goroutine; its owner passes the time to every method. It is not safe for concurrent use.
type Batcher struct {
	limits Limits
	key    Key
	seal   func(members []*jobs.Job, key string, why jobs.Seal, now time.Time) *jobs.Batch
	open   map[string]*gathering
	// order lists the open batches by the time of their first job.
	order []*gathering
}

// gathering is a batch that is still open.
type gathering struct {
	key      string
	jobs     []*jobs.Job
	bytes    int64
	weight   int
	messages int
	sets     map[string]struct{}
	due      time.Time
}

// messagesOf is how many messages a commit needs for a job at most: its page, and the tally and the
// end of its set.
func (g *gathering) messagesOf(j *jobs.Job) int {
	if _, known := g.sets[j.Set]; j.Set == "" || known {
		return 1
	}
	return 3
}

// fits reports whether a further job stays within the limits, but for the number of jobs; weight is
// the bound of weights.
func (g *gathering) fits(j *jobs.Job, limits *Limits, weight int) bool {
	return g.bytes+int64(len(j.Body)) <= limits.Bytes && g.weight+jobs.EntryWeight(j) <= weight &&
		g.messages+g.messagesOf(j) < limits.Messages
}

func (g *gathering) add(j *jobs.Job) {
	g.messages += g.messagesOf(j)
	if j.Set != "" {
		if g.sets == nil {
			g.sets = map[string]struct{}{}
		}
		g.sets[j.Set] = struct{}{}
	}
	g.jobs = append(g.jobs, j)
	g.bytes += int64(len(j.Body))
	g.weight += jobs.EntryWeight(j)
}

// NewBatcher returns a batcher without open batches. seal makes a batch of its members.
func NewBatcher(limits Limits, key Key, seal func(members []*jobs.Job, key string, why jobs.Seal, now time.Time) *jobs.Batch) *Batcher {
	return &Batcher{limits: limits, key: key, seal: seal, open: map[string]*gathering{}}
}

// Add puts a job into the open batch of its key and returns the batches that this sealed:
// the one before it, where the job would not have fitted, and its own, where it is now full.
func (b *Batcher) Add(j *jobs.Job, now time.Time) (sealed []*jobs.Batch) {
	key := b.key.Of(j)
	g, weight := b.open[key], b.limits.Weight()
	if g != nil && !g.fits(j, &b.limits, weight) {
		sealed = append(sealed, b.close(g, jobs.SealBytes, now))
		g = nil
	}
	if g == nil {
		g = &gathering{key: key, due: now.Add(b.limits.Linger)}
		if b.key == (Key{}) { // of many keys, most batches stay small
			g.jobs = make([]*jobs.Job, 0, b.limits.Jobs)
		}
		b.open[key] = g
		b.order = append(b.order, g)
	}
	g.add(j)
	switch {
	case len(g.jobs) >= b.limits.Jobs:
		sealed = append(sealed, b.close(g, jobs.SealSize, now))
	case g.bytes >= b.limits.Bytes || g.weight >= weight:
		sealed = append(sealed, b.close(g, jobs.SealBytes, now))
	}
	return sealed
}

// Due seals up to n open batches whose linger has ended, the oldest first.
func (b *Batcher) Due(n int, now time.Time) (sealed []*jobs.Batch) {
	for b.limits.Linger > 0 && len(b.order) > 0 && len(sealed) < n && !now.Before(b.order[0].due) {
		sealed = append(sealed, b.close(b.order[0], jobs.SealLinger, now))
	}
	return sealed
}

// Next returns when the next open batch is due; false where none ever is.
func (b *Batcher) Next() (time.Time, bool) {
	if b.limits.Linger == 0 || len(b.order) == 0 {
		return time.Time{}, false
	}
	return b.order[0].due, true
}

// Idle seals up to n open batches, the oldest first: no further job has arrived for them. It
// seals none while a linger is set.
func (b *Batcher) Idle(n int, now time.Time) (sealed []*jobs.Batch) {
	for b.limits.Linger == 0 && len(b.order) > 0 && len(sealed) < n {
		sealed = append(sealed, b.close(b.order[0], jobs.SealIdle, now))
	}
	return sealed
}

// Full seals up to n open batches, the oldest first, whether or not they linger: there is no room
// for further jobs.
func (b *Batcher) Full(n int, now time.Time) (sealed []*jobs.Batch) {
	for len(b.order) > 0 && len(sealed) < n {
		sealed = append(sealed, b.close(b.order[0], jobs.SealBytes, now))
	}
	return sealed
}

// Drain seals every open batch, the oldest first.
func (b *Batcher) Drain(now time.Time) (sealed []*jobs.Batch) {
	for len(b.order) > 0 {
		sealed = append(sealed, b.close(b.order[0], jobs.SealDrain, now))
	}
	return sealed
}

// Open returns the members of each open batch, the oldest first. They are the batcher's.
func (b *Batcher) Open() [][]*jobs.Job {
	open := make([][]*jobs.Job, len(b.order))
	for i, g := range b.order {
		open[i] = g.jobs
	}
	return open
}

// Remove drops the open batches whose members are gone, and returns those members.
func (b *Batcher) Remove(gone func(members []*jobs.Job) bool) (removed [][]*jobs.Job) {
	for _, g := range slices.Clone(b.order) {
		if gone(g.jobs) {
			b.remove(g)
			removed = append(removed, g.jobs)
		}
	}
	return removed
}

func (b *Batcher) close(g *gathering, why jobs.Seal, now time.Time) *jobs.Batch {
	b.remove(g)
	return b.seal(g.jobs, g.key, why, now)
}

func (b *Batcher) remove(g *gathering) {
	delete(b.open, g.key)
	if b.order[0] == g { // as nearly always, and there may be many behind it
		b.order[0] = nil
		b.order = b.order[1:]
		return
	}
	i := slices.Index(b.order, g)
	b.order = slices.Delete(b.order, i, i+1)
}
