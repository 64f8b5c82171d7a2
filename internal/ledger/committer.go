package ledger

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/retry"
)

const (
	minCommitWait = 5 * time.Millisecond
	maxCommitWait = time.Second
	// maxGroupBytes bounds the pages and events of one group; a single batch may be larger.
	maxGroupBytes = 8 << 20
	// togetherRefused is how often a group may be refused before it is halved. The pages are
	// read after each refusal, so every further one means that another replica has just
	// committed on them: the pool as a whole moves on, and with so many replicas on the same
	// pages the larger groups waste the least of the broker's disk.
	togetherRefused = 8

	// An atomic publish costs the broker about the same whatever it holds. Where so many jobs or
	// batches share one that throughput counts and not the latency of a single batch, the next
	// group gathers for as long as the last one took, but no longer than maxGather: with twice
	// the batches in each, half as many are needed.
	gatherJobs    = 512
	gatherBatches = 16
	maxGather     = 20 * time.Millisecond
)

// committer is a queue of commits and the goroutine that stores them, group by group.
type committer struct {
	store Store
	cfg   Config
	pages *pages
	log   zerolog.Logger
	// refusals are those of the goroutine.
	refusals *retry.Outage

	stopped chan struct{}
	wake    chan struct{}

	mu    sync.Mutex
	queue []*commit
	// restarted is when the broker's data was last found to be set back.
	restarted time.Time
}

func newCommitter(store Store, cfg Config, pages *pages, log zerolog.Logger) *committer {
	return &committer{
		store: store, cfg: cfg, pages: pages, log: log,
		refusals: retry.NewOutage(log, "committing batches"),
		stopped:  make(chan struct{}), wake: make(chan struct{}, 1),
	}
}

// submit queues a commit and waits for its end.
func (r *committer) submit(ctx context.Context, c *commit) error {
	r.mu.Lock()
	r.queue = append(r.queue, c)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
	case <-r.stopped:
	}
	select {
	case err := <-c.done:
		return err
	default:
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return ErrClosed
}

// restart ends every commit of jobs that were received before at, queued or yet to come.
func (r *committer) restart(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.restarted = at
}

// run commits what waits until ctx is done, then returns nil.
func (r *committer) run(ctx context.Context) error {
	defer close(r.stopped)
	for {
		if group, more := r.next(); len(group) > 0 {
			begun, n := time.Now(), 0
			for _, c := range group {
				n += len(c.jobs)
			}
			r.commit(ctx, group)
			if (n >= gatherJobs || len(group) >= gatherBatches) && !more {
				_ = retry.Wait(ctx, min(time.Since(begun), maxGather)) // the end of ctx is seen below
			}
			continue
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// next takes as many of the waiting commits as fit into one group, in their order, and reports
// whether more are waiting.
func (r *committer) next() (group []*commit, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	writes, bytes, n := 0, 0, 0
	for _, c := range r.queue {
		writes += c.messages()
		bytes += len(c.event.Data)
		if n > 0 && (writes > MaxGroup || bytes > maxGroupBytes) {
			break
		}
		n++
	}
	group = r.queue[:n:n]
	if r.queue = r.queue[n:]; len(r.queue) == 0 {
		r.queue = nil
	}
	return group, r.queue != nil
}

// commit brings every commit of a group to its end: stored, in conflict, refused for good, set
// back, or abandoned. It returns early when ctx ends.
func (r *committer) commit(ctx context.Context, group []*commit) {
	again := retry.Backoff{Lo: minCommitWait, Hi: maxCommitWait}
	var latest *reading
	for refused := 0; ; {
		if group = r.current(group); len(group) == 0 || ctx.Err() != nil {
			return
		}
		if refused >= togetherRefused && len(group) > 1 {
			r.commitHalves(ctx, group)
			return
		}
		later, err := r.attempt(ctx, group, latest)
		switch {
		case err == nil:
			r.refusals.Ended()
			group, latest, refused = later, nil, 0
			continue
		case errors.Is(err, ErrRefused) && len(group) == 1:
			group[0].done <- err
			return
		case errors.Is(err, ErrRefused):
			r.commitHalves(ctx, group)
			return
		case errors.Is(err, ErrStale), errors.Is(err, ErrBusy): // busy may mean that there is room for less
			refused++
		}
		changed := false
		if !errors.Is(err, ErrBusy) {
			group, latest, changed = r.resolve(ctx, group)
		}
		if !changed && len(group) > 0 {
			r.log.Debug().Err(err).Int("batches", len(group)).Msg("commit is tried again")
			r.refusals.Failed(err)
			if retry.Wait(ctx, again.Next()) != nil {
				return
			}
		}
	}
}

// current returns the commits that somebody still waits for and whose jobs the broker still has.
func (r *committer) current(group []*commit) []*commit {
	r.mu.Lock()
	restarted := r.restarted
	r.mu.Unlock()
	return slices.DeleteFunc(group, func(c *commit) bool {
		if c.received.Before(restarted) {
			c.done <- ErrSetBack
			return true
		}
		return c.abandoned()
	})
}

// commitHalves commits the halves of a group one after the other: down to single commits, if
// need be, so that none waits for another that the broker will not have.
func (r *committer) commitHalves(ctx context.Context, group []*commit) {
	half := len(group) / 2
	r.commit(ctx, group[:half:half])
	r.commit(ctx, group[half:])
}

// attempt tries to store a group once and ends those that were stored. It returns the commits
// that have to wait for a later group.
func (r *committer) attempt(ctx context.Context, group []*commit, latest *reading) (later []*commit, err error) {
	d := r.pages.draft(group, latest)
	if d.contradicted {
		return nil, ErrStale
	}
	writes, err := d.writes(r.pages, r.cfg.TTL(), r.cfg.TallyTTL)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	first, err := r.store.Apply(ctx, writes)
	if r.cfg.OnGroup != nil {
		r.cfg.OnGroup(Group{Batches: d.events, Took: time.Since(begun), Err: err})
	}
	if err != nil {
		return nil, err
	}
	r.pages.keep(d, first)
	for _, c := range d.members {
		c.done <- nil
	}
	if sets := d.counted(); len(sets) > 0 && r.cfg.OnSets != nil {
		r.cfg.OnSets(sets)
	}
	return d.later, nil
}

// resolve reads the pages and events of a refused group and ends the commits whose fate is known. It
// returns the rest, the messages that were read, and whether anything was learnt.
func (r *committer) resolve(ctx context.Context, group []*commit) (rest []*commit, latest *reading, changed bool) {
	want := wanted{pages: make(map[pageKey]struct{}), sets: make(map[string]struct{})}
	for _, c := range group {
		for _, key := range c.pages {
			want.pages[key] = struct{}{}
		}
		for _, set := range c.sets {
			want.sets[set] = struct{}{}
		}
		if c.event.Subject != "" {
			want.events = append(want.events, c.event.Subject)
		}
	}
	found, err := r.pages.read(ctx, want)
	if err != nil {
		r.log.Debug().Err(err).Msg("the ledger could not be read after a refused commit")
		return group, nil, false
	}
	changed = r.pages.replace(found)
	for _, c := range group {
		if ended, err := c.fate(&found, r.pages); ended {
			c.done <- err
			continue
		}
		rest = append(rest, c)
	}
	return rest, &found, changed || len(rest) < len(group)
}
