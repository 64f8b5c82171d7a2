package bus

import (
	"context"
	"errors"
	"slices"
	"time"

	"rollcall/internal/jobs"
)

const (
	minCommitPause = 5 * time.Millisecond
	maxCommitPause = time.Second
	// togetherRefused is how often a group may be refused before its commits go alone: the
	// pages are read after each refusal, so the second one means that others are busy on them.
	togetherRefused = 3
)

// settle brings every commit of a group to its end: stored, in conflict, refused for good, or
// abandoned. It returns early when ctx ends.
func (l *Ledger) settle(ctx context.Context, group []*commit) {
	again := backoff{lo: minCommitPause, hi: maxCommitPause}
	for refused := 0; ; {
		group = slices.DeleteFunc(group, (*commit).abandoned)
		if len(group) == 0 || ctx.Err() != nil {
			return
		}
		if refused >= togetherRefused && len(group) > 1 {
			l.settleAlone(ctx, group)
			return
		}
		d := l.draft(group)
		err := ErrStale
		if !d.contradicted {
			if err = l.publish(ctx, d); err == nil {
				group, refused = d.later, 0
				continue
			}
		}
		if errors.Is(err, ErrRefused) {
			if len(group) == 1 {
				group[0].done <- err
				return
			}
			l.settleAlone(ctx, group)
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
			if pause(ctx, again.step()) != nil {
				return
			}
		}
	}
}

func (l *Ledger) settleAlone(ctx context.Context, group []*commit) {
	for i := range group {
		l.settle(ctx, group[i:i+1:i+1])
	}
}

// publish stores a draft and tells its members.
func (l *Ledger) publish(ctx context.Context, d *draft) error {
	first, err := l.store.Apply(ctx, l.writes(d))
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
