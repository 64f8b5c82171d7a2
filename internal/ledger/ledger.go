package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/retry"
)

// Ledger remembers every job of a pool and commits completion events; see the package comment.
type Ledger struct {
	cfg       Config
	log       zerolog.Logger
	pages     *pages
	committer *committer
}

// New returns a ledger. [Ledger.Run] must run while it is used.
func New(store Store, cfg Config, log zerolog.Logger) *Ledger {
	pages := newPages(store, cfg.Names, cfg.Lane, log)
	return &Ledger{cfg: cfg, log: log, pages: pages, committer: newCommitter(store, cfg, pages, log)}
}

// Run commits what waits until ctx is done, then returns nil. It is called once.
func (l *Ledger) Run(ctx context.Context) error { return l.committer.run(ctx) }

// Invalidate forgets what is known of pages: after a reconnect nothing counts until it is read
// again, because the broker may have lost it.
func (l *Ledger) Invalidate() { l.pages.invalidate() }

// Restart begins anew after the broker's data was set back: nothing remembered counts, and no job
// received before at is ever committed. Its number may belong to another job by now.
func (l *Ledger) Restart(at time.Time) {
	l.pages.invalidate()
	l.committer.restart(at)
}

// readWait is how long Load waits at first before it tries again.
const readWait = 20 * time.Millisecond

// Load implements pool.Ledger: all pages are read in one request, again and again until that
// succeeds or ctx ends. The jobs of an unreadable page count as unknown; they cannot be
// committed again.
func (l *Ledger) Load(ctx context.Context, refs []jobs.Ref) ([]jobs.Record, error) {
	keys := make(map[pageKey]struct{}, len(refs))
	for _, ref := range refs {
		key, _ := keyOf(ref)
		keys[key] = struct{}{}
	}
	again := retry.Backoff{Lo: readWait, Hi: time.Second}
	failures := retry.NewOutage(l.log, "reading the ledger")
	for {
		found, err := l.pages.read(ctx, wanted{pages: keys})
		if err == nil {
			failures.Ended()
			return records(refs, l.pages.merge(found)), nil
		}
		failures.Failed(err)
		if retry.Wait(ctx, again.Next()) != nil {
			return nil, fmt.Errorf("read the ledger: %w: %w", context.Cause(ctx), err)
		}
	}
}

// records looks refs up in pages.
func records(refs []jobs.Ref, pages map[pageKey]knownPage) []jobs.Record {
	found := make([]jobs.Record, len(refs))
	for i, ref := range refs {
		key, offset := keyOf(ref)
		found[i] = pages[key].value.Record(offset)
	}
	return found
}

// Commit implements pool.Ledger. An error besides *[jobs.ConflictError] means that ctx ended or
// that Run has ended ([ErrClosed]), both with unknown outcome, that the broker will never take the
// event ([ErrRefused]), or that its data was set back meanwhile ([ErrSetBack]).
func (l *Ledger) Commit(ctx context.Context, s *jobs.Settlement) error {
	c := newCommit(ctx, len(s.Batch.Jobs), func(i int, r jobs.Record) jobs.Record { return r.Apply(&s.Rulings[i]) })
	for i, j := range s.Batch.Jobs {
		c.add(j.Ref)
		c.count(j, &s.Rulings[i])
		if i == 0 || j.Received.Before(c.received) {
			c.received = j.Received
		}
	}
	c.event = Write{
		Subject: l.cfg.EventSubject(l.cfg.Pool, s.Outcome, s.Batch.ID), TTL: l.cfg.EventTTL, Data: s.Event,
		ContentType: jobs.MediaEvent, Traceparent: s.Batch.Traceparent,
	}
	if err := l.committer.submit(ctx, c); err != nil {
		return fmt.Errorf("commit batch %s: %w", s.Batch.ID, err)
	}
	return nil
}

// Mark implements pool.Ledger. Writing the same mark twice is harmless, so a lost reply needs
// no care.
func (l *Ledger) Mark(ctx context.Context, marks []jobs.Mark) error {
	c := newCommit(ctx, len(marks), func(i int, r jobs.Record) jobs.Record { return marks[i].Apply(r) })
	for i := range marks {
		c.add(marks[i].Ref)
	}
	c.received = time.Now()
	if err := l.committer.submit(ctx, c); err != nil {
		return fmt.Errorf("mark %d jobs in the ledger: %w", len(marks), err)
	}
	return nil
}
