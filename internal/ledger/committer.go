package ledger

import (
	"context"
	"errors"
	"slices"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/retry"
)

const (
	minCommitPause = 5 * time.Millisecond
	maxCommitPause = time.Second
	// togetherRefused is how often a group may be refused before it is halved. The pages are
	// read after each refusal, so every further one means that another replica has just
	// committed on them: the pool as a whole moves on, and with so many replicas on the same
	// pages the larger groups waste the least of the broker's disk.
	togetherRefused = 8
)

// settle brings every commit of a group to its end: stored, in conflict, refused for good, or
// abandoned. It returns early when ctx ends.
func (l *Ledger) settle(ctx context.Context, group []*commit) {
	again := retry.Backoff{Lo: minCommitPause, Hi: maxCommitPause}
	for refused := 0; ; {
		group = slices.DeleteFunc(group, (*commit).abandoned)
		if len(group) == 0 || ctx.Err() != nil {
			return
		}
		if refused >= togetherRefused && len(group) > 1 {
			l.settleHalves(ctx, group)
			return
		}
		d := l.draft(group)
		err := ErrStale
		if !d.contradicted {
			if err = l.publish(ctx, d); err == nil {
				l.refusals.Ended()
				group, refused = d.later, 0
				continue
			}
		}
		if errors.Is(err, ErrRefused) {
			if len(group) == 1 {
				group[0].done <- err
				return
			}
			l.settleHalves(ctx, group)
			return
		}
		changed := false
		if !errors.Is(err, ErrBusy) {
			if errors.Is(err, ErrStale) {
				refused++
			}
			group, changed = l.sortOut(ctx, group)
		}
		if !changed && len(group) > 0 {
			l.log.Debug().Err(err).Int("batches", len(group)).Msg("commit is tried again")
			l.refusals.Failed(err)
			if retry.Wait(ctx, again.Next()) != nil {
				return
			}
		}
	}
}

// settleHalves settles the halves of a group one after the other: down to single commits, if
// need be, so that none waits for another that the broker will not have.
func (l *Ledger) settleHalves(ctx context.Context, group []*commit) {
	half := len(group) / 2
	l.settle(ctx, group[:half:half])
	l.settle(ctx, group[half:])
}

// publish stores a draft and tells its members.
func (l *Ledger) publish(ctx context.Context, d *draft) error {
	begun := time.Now()
	first, err := l.store.Apply(ctx, l.writes(d))
	if l.cfg.OnGroup != nil {
		l.cfg.OnGroup(Group{Batches: d.batches(), Took: time.Since(begun), Err: err})
	}
	if err != nil {
		return err
	}
	l.keep(d, first)
	for _, c := range d.members {
		c.done <- nil
	}
	return nil
}

// sortOut reads what the commits of a refused group touch and ends those whose fate is known.
// It returns the rest, and whether anything was learnt. Whatever a lagging follower shows is
// taken over: if that is older than what was known, the next publish is refused as well, and
// nothing worse.
func (l *Ledger) sortOut(ctx context.Context, group []*commit) (rest []*commit, changed bool) {
	keys := make(map[pageKey]struct{})
	var events []string
	for _, c := range group {
		for _, key := range c.pages {
			keys[key] = struct{}{}
		}
		if c.event.Subject != "" {
			events = append(events, c.event.Subject)
		}
	}
	found, err := l.read(ctx, keys, events)
	if err != nil {
		l.log.Debug().Err(err).Msg("the ledger could not be read after a refused commit")
		return group, false
	}
	changed = l.refresh(found.pages)
	for _, c := range group {
		var conflict *jobs.ConflictError
		switch conflict = c.verdict(found.pages); {
		case found.events[c.event.Subject]:
			c.done <- nil
		case c.blocked(found.unreadable) != nil:
			c.done <- c.blocked(found.unreadable)
		case conflict != nil:
			c.done <- conflict
		default:
			rest = append(rest, c)
		}
	}
	return rest, changed || len(rest) < len(group)
}

// refresh replaces what was known of pages and reports whether that changed anything.
func (l *Ledger) refresh(pages map[pageKey]knownPage) (changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, read := range pages {
		if known, _ := l.cache.get(key); known.seq != read.seq {
			changed = true
		}
		l.cache.put(key, read)
	}
	return changed
}
