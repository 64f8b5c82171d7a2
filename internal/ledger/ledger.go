package ledger

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/retry"
)

// Ledger remembers every job of a pool and commits completion events; see the package comment.
type Ledger struct {
	store Store
	cfg   Config
	log   zerolog.Logger

	stopped chan struct{}
	wake    chan struct{}

	// refusals are those of the committer, see Run.
	refusals *retry.Outage

	mu      sync.Mutex
	waiting []*commit
	cache   pageCache
	// told are the unreadable pages that the log names already.
	told map[pageKey]bool
}

// New returns a ledger. [Ledger.Run] must run while it is used.
func New(store Store, cfg Config, log zerolog.Logger) *Ledger {
	return &Ledger{
		store: store, cfg: cfg, log: log,
		stopped: make(chan struct{}), wake: make(chan struct{}, 1),
		refusals: retry.NewOutage(log, "committing batches"),
		told:     map[pageKey]bool{},
	}
}

// readPause is how long Load waits at first before it tries again.
const readPause = 20 * time.Millisecond

// Load implements pool.Ledger: all pages are read in one request, again and again until that
// succeeds or ctx ends. What stands on an unreadable page counts as unknown; it cannot be
// committed again.
func (l *Ledger) Load(ctx context.Context, refs []jobs.Ref) ([]jobs.Record, error) {
	keys := make(map[pageKey]struct{}, len(refs))
	for _, ref := range refs {
		number, _ := ref.Page()
		keys[pageKey{ref.Epoch, number}] = struct{}{}
	}
	again := retry.Backoff{Lo: readPause, Hi: time.Second}
	failures := retry.NewOutage(l.log, "reading the ledger")
	for {
		pages, err := l.read(ctx, keys, nil)
		if err == nil {
			failures.Ended()
			return l.records(refs, pages.pages), nil
		}
		failures.Failed(err)
		if retry.Wait(ctx, again.Next()) != nil {
			return nil, fmt.Errorf("read the ledger: %w: %w", context.Cause(ctx), err)
		}
	}
}

// records looks refs up in pages just read. What this replica itself wrote later than a
// lagging follower shows counts too.
func (l *Ledger) records(refs []jobs.Ref, pages map[pageKey]knownPage) []jobs.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, read := range pages {
		if cached, ok := l.cache.get(key); ok && cached.seq > read.seq {
			pages[key] = cached
			continue
		}
		l.cache.put(key, read)
	}
	records := make([]jobs.Record, len(refs))
	for i, ref := range refs {
		number, offset := ref.Page()
		records[i] = pages[pageKey{ref.Epoch, number}].page.Record(offset)
	}
	return records
}

// Commit implements pool.Ledger. An error besides *[jobs.ConflictError] means that ctx ended,
// that Run has ended ([ErrClosed]), both with unknown outcome, or that the broker will never
// take the event ([ErrRefused]).
func (l *Ledger) Commit(ctx context.Context, s *jobs.Settlement) error {
	c := newCommit(ctx, len(s.Batch.Jobs), func(i int, r jobs.Record) jobs.Record { return r.Apply(&s.Rulings[i]) })
	for _, j := range s.Batch.Jobs {
		c.place(j.Ref)
	}
	c.event = Write{
		Subject: l.cfg.EventSubject(l.cfg.Pool, s.Outcome, s.Batch.ID), Data: s.Event,
		ContentType: jobs.MediaEvent, Traceparent: s.Batch.Traceparent,
	}
	if err := l.submit(ctx, c); err != nil {
		return fmt.Errorf("commit batch %s: %w", s.Batch.ID, err)
	}
	return nil
}

// Mark implements pool.Ledger. Writing the same mark twice is harmless, so a lost answer needs
// no care.
func (l *Ledger) Mark(ctx context.Context, marks []jobs.Mark) error {
	c := newCommit(ctx, len(marks), func(i int, r jobs.Record) jobs.Record { return marks[i].Apply(r) })
	for i := range marks {
		c.place(marks[i].Ref)
	}
	if err := l.submit(ctx, c); err != nil {
		return fmt.Errorf("mark %d jobs in the ledger: %w", len(marks), err)
	}
	return nil
}

// submit queues a commit and waits for its end.
func (l *Ledger) submit(ctx context.Context, c *commit) error {
	l.mu.Lock()
	l.waiting = append(l.waiting, c)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
	case <-l.stopped:
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

// An atomic publish costs the broker about the same whatever it holds. Where so many jobs share
// one that throughput counts and not the latency of a single batch, the next group gathers for
// as long as the last one took, but no longer than maxGather: with twice the batches in each,
// half as many are needed.
const (
	gatherFrom = 512
	maxGather  = 20 * time.Millisecond
)

// Run commits what waits until ctx is done, then returns nil. It is called once.
func (l *Ledger) Run(ctx context.Context) error {
	defer close(l.stopped)
	for {
		if group, more := l.take(); len(group) > 0 {
			begun, n := time.Now(), 0
			for _, c := range group {
				n += len(c.jobs)
			}
			l.settle(ctx, group)
			if n >= gatherFrom && !more {
				_ = retry.Wait(ctx, min(time.Since(begun), maxGather)) // the end of ctx is seen below
			}
			continue
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// maxGroupBytes bounds the events of one group; a single event may be larger.
const maxGroupBytes = 8 << 20

// take returns as many of the waiting commits as fit into one group, in their order, and whether
// more are waiting.
func (l *Ledger) take() (group []*commit, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	writes, bytes, n := 0, 0, 0
	for _, c := range l.waiting {
		writes += len(c.pages) + 1
		bytes += len(c.event.Data)
		if n > 0 && (writes > MaxGroup || bytes > maxGroupBytes) {
			break
		}
		n++
	}
	group = l.waiting[:n:n]
	if l.waiting = l.waiting[n:]; len(l.waiting) == 0 {
		l.waiting = nil
	}
	return group, l.waiting != nil
}

// pagesRead is what a read found: the pages asked for, with a zero one for each that does not
// exist and none for each that cannot be decoded, and the subjects of the events that do.
type pagesRead struct {
	pages      map[pageKey]knownPage
	unreadable map[pageKey]error
	events     map[string]bool
}

// read reads pages and events at one moment.
func (l *Ledger) read(ctx context.Context, keys map[pageKey]struct{}, events []string) (pagesRead, error) {
	found := pagesRead{pages: make(map[pageKey]knownPage, len(keys)), events: make(map[string]bool, len(events)), unreadable: map[pageKey]error{}}
	bySubject := make(map[string]pageKey, len(keys))
	subjects := make([]string, 0, len(keys)+len(events))
	for key := range keys {
		subject := key.subject(l.cfg.Pool)
		bySubject[subject] = key
		subjects = append(subjects, subject)
		found.pages[key] = knownPage{}
	}
	entries, err := l.store.Read(ctx, append(subjects, events...))
	if err != nil {
		return found, err
	}
	for _, entry := range entries {
		key, ok := bySubject[entry.Subject]
		if !ok {
			found.events[entry.Subject] = true
			continue
		}
		page, err := jobs.DecodePage(entry.Data)
		if err != nil {
			delete(found.pages, key)
			found.unreadable[key] = l.unreadable(key, entry.Subject, err)
			continue
		}
		found.pages[key] = knownPage{seq: entry.Seq, page: page}
	}
	return found, nil
}

// unreadable returns the error of a page that cannot be decoded, and tells a person the first
// time. Such a page is not Rollcall's, or that of a newer version, which would lose it if it
// were overwritten. So its jobs cannot end, and must not hold up others.
func (l *Ledger) unreadable(key pageKey, subject string, cause error) error {
	l.mu.Lock()
	told := l.told[key]
	if !told && len(l.told) < cachedPages {
		l.told[key] = true
	}
	l.mu.Unlock()
	if !told {
		l.log.Error().Err(cause).Str("subject", subject).
			Msg("a page of the ledger cannot be read, so its jobs cannot end; upgrade the worker, or purge the subject and have its jobs done again")
	}
	return fmt.Errorf("%w: the ledger page %s cannot be read: %w", ErrRefused, subject, cause)
}
