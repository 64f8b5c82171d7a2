package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rollcall/internal/jobs"
)

const (
	// moveSize is how many records one step of a take-over moves: each needs two writes.
	moveSize = MaxGroup/2 - 1
	// moveTries is how often a take-over begins again because somebody wrote meanwhile.
	moveTries = 20
	// maxFence bounds the pages without a record that are fenced.
	maxFence = 4096
	// movedTTL is the least time that a moved record stays closed to the pool it was taken from.
	movedTTL = time.Minute
	// movedPrefix begins what stands in a moved record. It is neither a page nor a tally.
	movedPrefix = "moved to pool "
)

// movedTo returns the pool that took a record over.
func movedTo(data []byte) (pool string, ok bool) { return strings.CutPrefix(string(data), movedPrefix) }

// TakeOver moves the ledger of a pool to a pool of another name over the same stream.
//
//	page of From, expects what was read ─▶ "moved to pool To"  ┐ one atomic write
//	page of To,   expects what was read ─▶ both merged         ┘ for some hundred pages
//
// So every page belongs to one of the two pools at any time, also after a crash; running it again
// finishes it. A replica of the old pool that comes back finds its pages moved and cannot commit.
type TakeOver struct {
	From, To Names
	// Fence are jobs that a replica of the old pool may still hold without a record of them. Their
	// pages are closed as well.
	Fence Range
	// Own is what this replica needs of the ledger; the longest retention of either pool counts.
	Own Retention
	// TallyTTL is how long a tally is kept that nobody ends; 0 = for ever.
	TallyTTL time.Duration
}

// Range are jobs of one epoch, First and Last included. Last 0 is none.
type Range struct {
	Epoch       string
	First, Last uint64
}

// Run moves what is not yet moved, and returns how many records that were.
func (t TakeOver) Run(ctx context.Context, store Upkeep) (moved int, err error) {
	retention, err := t.retention(ctx, store)
	if err != nil {
		return 0, fmt.Errorf("take the ledger of pool %s over: %w", t.From.Pool, err)
	}
	for range moveTries {
		n, err := t.pass(ctx, store, retention)
		if moved += n; errors.Is(err, ErrStale) || errors.Is(err, ErrBusy) {
			continue // somebody wrote meanwhile
		}
		if err != nil {
			return moved, fmt.Errorf("take the ledger of pool %s over: %w", t.From.Pool, err)
		}
		return moved, nil
	}
	return moved, fmt.Errorf("take the ledger of pool %s over: its replicas keep writing to it; stop them first", t.From.Pool)
}

// retention returns the longest retention of both pools.
func (t TakeOver) retention(ctx context.Context, store Upkeep) (Retention, error) {
	longest := t.Own
	for _, names := range []Names{t.From, t.To} {
		found, err := longestOf(ctx, store, names, longest)
		if err != nil {
			return Retention{}, err
		}
		longest = found
	}
	return longest, nil
}

// pass moves everything once.
func (t TakeOver) pass(ctx context.Context, store Upkeep, r Retention) (moved int, err error) {
	known := map[string]bool{}
	var batch []Entry
	flush := func() error {
		n, err := t.move(ctx, store, batch, r)
		moved, batch = moved+n, batch[:0]
		return err
	}
	for _, filter := range []string{t.From.Pages(), t.From.Sets("*")} {
		err := scan(ctx, store, filter, 1, func(e Entry) error {
			known[e.Subject] = true
			if _, done := movedTo(e.Data); done {
				return nil
			}
			if batch = append(batch, e); len(batch) < moveSize {
				return nil
			}
			return flush()
		})
		if err != nil {
			return moved, err
		}
	}
	if err := flush(); err != nil {
		return moved, err
	}
	return moved, t.fence(ctx, store, known, r)
}

// move moves some records in one atomic write.
func (t TakeOver) move(ctx context.Context, store Upkeep, batch []Entry, r Retention) (int, error) {
	if len(batch) == 0 {
		return 0, nil
	}
	targets := make([]string, len(batch))
	for i := range batch {
		targets[i] = t.target(batch[i].Subject)
	}
	found, err := store.Read(ctx, targets)
	if err != nil {
		return 0, err
	}
	bySubject := make(map[string]Entry, len(found))
	for _, e := range found {
		bySubject[e.Subject] = e
	}
	writes := make([]Write, 0, 2*len(batch))
	for i, e := range batch {
		w, err := t.merged(e, bySubject[targets[i]], r)
		if err != nil {
			return 0, err
		}
		w.Subject, w.Expect = targets[i], bySubject[targets[i]].Seq
		writes = append(writes, w, t.closed(e.Subject, e.Seq, r))
	}
	if _, err := store.Apply(ctx, writes); err != nil {
		return 0, err
	}
	return len(batch), nil
}

// target is the subject of a record in the new ledger.
func (t TakeOver) target(subject string) string {
	return "done.ledger." + t.To.Pool + strings.TrimPrefix(subject, "done.ledger."+t.From.Pool)
}

// closed is what stands in the old ledger from now on.
func (t TakeOver) closed(subject string, expect uint64, r Retention) Write {
	return Write{Subject: subject, Expect: expect, TTL: max(r.Horizon, movedTTL), Data: []byte(movedPrefix + t.To.Pool)}
}

// merged returns a record of the old ledger together with that of the new one.
func (t TakeOver) merged(old, young Entry, r Retention) (Write, error) {
	if set, last, ok := parseSet(old.Subject); ok {
		if last == setEnd {
			return Write{TTL: r.TTL, Data: old.Data}, nil
		}
		return mergedTally(set, old, young, t.TallyTTL)
	}
	page, err := jobs.DecodePage(old.Data)
	if err != nil {
		return Write{}, fmt.Errorf("read %s: %w", old.Subject, err)
	}
	page = recounted(page)
	if young.Seq > 0 {
		other, err := jobs.DecodePage(young.Data)
		if err != nil {
			return Write{}, fmt.Errorf("read %s: %w", young.Subject, err)
		}
		page = page.Merge(other)
	}
	w := Write{Data: page.Append(nil)}
	if !page.Open() {
		w.TTL = max(r.TTL, r.Horizon)
	}
	return w, nil
}

// recounted returns the page for a pool whose consumer counts deliveries from one again.
func recounted(page jobs.Page) jobs.Page {
	for offset := range jobs.PageSize {
		if r := page.Record(offset); page.Known(offset) && !r.Final {
			r.Seen, r.Since = 0, 0
			page = page.With(offset, r)
		}
	}
	return page
}

func mergedTally(set string, old, young Entry, ttl time.Duration) (Write, error) {
	tally, err := jobs.DecodeSetTally(old.Data)
	if err != nil {
		return Write{}, fmt.Errorf("read the tally of set %s: %w", set, err)
	}
	if young.Seq > 0 {
		other, err := jobs.DecodeSetTally(young.Data)
		if err != nil {
			return Write{}, fmt.Errorf("read the tally of set %s: %w", set, err)
		}
		tally = tally.Merge(other)
	}
	data, err := tally.Encode()
	return Write{TTL: ttl, Data: data}, err
}

// fence closes the pages of jobs that the old pool may hold and has no record of.
func (t TakeOver) fence(ctx context.Context, store Upkeep, known map[string]bool, r Retention) error {
	if t.Fence.Last == 0 {
		return nil
	}
	var writes []Write
	first := t.Fence.First / jobs.PageSize
	for number := first; number <= t.Fence.Last/jobs.PageSize && number < first+maxFence; number++ {
		if subject := t.From.page(pageKey{t.Fence.Epoch, number}); !known[subject] {
			writes = append(writes, t.closed(subject, 0, r))
		}
	}
	for chunk := range slices.Chunk(writes, MaxGroup) {
		if _, err := store.Apply(ctx, chunk); err != nil {
			return err
		}
	}
	return nil
}

// Others returns the pools that have pages over the stream and epoch of names besides its own,
// each with the jobs that it knows, lowest first. Records that were taken over are not theirs any more.
func Others(ctx context.Context, store Upkeep, names Names, epoch string) (map[string][]uint64, error) {
	others := map[string][]uint64{}
	anyPool := Names{Pool: "*", Stream: names.Stream}
	err := scan(ctx, store, string(append(append(anyPool.appendPages(nil), epoch...), ".*.*"...)), 1, func(e Entry) error {
		n, key, ok := parsePage(e.Subject)
		if _, moved := movedTo(e.Data); !ok || moved || n.Pool == names.Pool {
			return nil
		}
		page, err := jobs.DecodePage(e.Data)
		if err != nil {
			return nil //nolint:nilerr // what cannot be read belongs to nobody
		}
		for offset := range jobs.PageSize {
			if page.Known(offset) {
				others[n.Pool] = append(others[n.Pool], key.number*jobs.PageSize+uint64(offset))
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for ledgers of other pools: %w", err)
	}
	for pool := range others {
		slices.Sort(others[pool])
	}
	return others, nil
}
