package ledger

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/retry"
)

const (
	// minSweep is the shortest time between two sweeps.
	minSweep = 2 * time.Second
	// maxFruitless scans in a row in which nothing could be removed end a sweep: the oldest
	// pages mostly belong to the lowest jobs, and all above the ack floor must stay.
	maxFruitless = 16
	// sweepTimeout bounds one sweep.
	sweepTimeout = time.Minute
)

// Sweeper keeps the ledger as small as rate × horizon. It removes whole buckets of pages that
// nobody can need any more: all their jobs are settled at the broker, and their newest page is
// older than the longest stall after which a commit must still be refused. Any one replica suffices, and
// sweeping twice is harmless.
//
// A sweep reads the pages oldest first, scan by scan, until one is too young, or until nothing
// could be removed for a while: the pages after that wait for the same job at the broker.
type Sweeper struct {
	store      Upkeep
	names      Names
	retentions *Retentions
	log        zerolog.Logger
}

// NewSweeper returns the sweeper of a ledger.
func NewSweeper(store Upkeep, names Names, retentions *Retentions, log zerolog.Logger) *Sweeper {
	return &Sweeper{store: store, names: names, retentions: retentions, log: log}
}

// Run sweeps at least twice per horizon until ctx is done, then returns nil. A sweep that fails is
// logged; the next one tries again.
func (s *Sweeper) Run(ctx context.Context) error {
	interval := max(minSweep, s.retentions.own.Horizon/2)
	for retry.Wait(ctx, retry.Jitter(interval)) == nil {
		purged, err := s.Sweep(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			s.log.Warn().Err(err).Msg("the ledger could not be swept")
		case purged > 0:
			s.log.Debug().Uint64("pages", purged).Msg("swept the ledger")
		}
	}
	return nil
}

// bucket names a bucket of pages.
type bucket struct {
	epoch  string
	number uint64
}

// passed reports whether every job of a bucket is settled at the broker.
func (f Floor) passed(b bucket) bool {
	if b.epoch == jobs.Epoch(f.Created) {
		return (b.number+1)*jobs.PagesPerBucket*jobs.PageSize <= f.Seq+1
	}
	nanos, err := strconv.ParseInt(b.epoch, 36, 64)
	return err == nil && time.Unix(0, nanos).Before(f.Created)
}

// Sweep removes the buckets that are due, and returns how many pages went.
func (s *Sweeper) Sweep(ctx context.Context) (purged uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	longest, err := s.retentions.Renew(ctx)
	if err != nil {
		return 0, fmt.Errorf("sweep the ledger: %w", err)
	}
	floor, err := s.store.Floor(ctx)
	if err != nil {
		return 0, fmt.Errorf("sweep the ledger: %w", err)
	}
	due := floor.Now.Add(-longest.Horizon)
	for from, fruitless := uint64(1), 0; fruitless < maxFruitless; {
		entries, err := s.store.Scan(ctx, s.names.Pages(), from)
		if err != nil {
			return purged, fmt.Errorf("sweep the ledger: %w", err)
		}
		n, err := s.sweep(ctx, entries, floor, due)
		purged += n
		if err != nil {
			return purged, fmt.Errorf("sweep the ledger: %w", err)
		}
		if len(entries) == 0 || !entries[len(entries)-1].Stored.Before(due) {
			return purged, nil
		}
		from = entries[len(entries)-1].Seq + 1
		if fruitless++; n > 0 {
			fruitless = 0
		}
	}
	return purged, nil
}

// sweep purges the buckets that entries name and that are due.
func (s *Sweeper) sweep(ctx context.Context, entries []Entry, floor Floor, due time.Time) (purged uint64, err error) {
	judged := make(map[bucket]bool)
	for i := range entries {
		if !entries[i].Stored.Before(due) {
			break
		}
		_, key, ok := parsePage(entries[i].Subject)
		b := bucket{key.epoch, key.bucket()}
		if !ok || judged[b] || !floor.passed(b) {
			continue
		}
		judged[b] = true
		n, err := s.sweepBucket(ctx, b, due)
		if err != nil {
			return purged, err
		}
		purged += n
	}
	return purged, nil
}

// sweepBucket purges a bucket if its newest page is old enough. There may be none any more:
// another replica sweeps as well.
func (s *Sweeper) sweepBucket(ctx context.Context, b bucket, due time.Time) (uint64, error) {
	filter := s.names.Bucket(b.epoch, b.number)
	newest, err := s.store.Newest(ctx, filter)
	if err != nil {
		return 0, fmt.Errorf("read the newest page of %s: %w", filter, err)
	}
	if newest.Seq == 0 || !newest.Stored.Before(due) {
		return 0, nil
	}
	n, err := s.store.Purge(ctx, filter)
	if err != nil {
		return 0, fmt.Errorf("purge %s: %w", filter, err)
	}
	return n, nil
}
