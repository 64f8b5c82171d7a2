package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/retry"
)

const (
	// minSweep is the shortest time between two sweeps.
	minSweep = 2 * time.Second
	// sweepChunk is how many pages are looked at in one request.
	sweepChunk = 512
	// maxFruitless chunks in a row in which nothing could be removed end a sweep: the oldest
	// pages mostly belong to the lowest jobs, and all above the ack floor must stay.
	maxFruitless = 16
	// sweepTimeout bounds one sweep.
	sweepTimeout = time.Minute
)

// Sweeper keeps the ledger as small as rate × horizon. It removes whole buckets of pages that
// nobody can need any more: all their jobs are settled at the broker, and their newest page is
// older than a zombie may be that must still be refused. Any one replica suffices, and
// sweeping twice is harmless.
//
// A sweep reads the pages oldest first, in chunks, until one is too young, or until nothing
// could be removed for a while: what comes then waits for the same job at the broker.
type Sweeper struct {
	conn  *Conn
	setup *Setup
	log   zerolog.Logger
}

// NewSweeper returns the sweeper of the pool that setup is for.
func NewSweeper(conn *Conn, setup *Setup, log zerolog.Logger) *Sweeper {
	return &Sweeper{conn: conn, setup: setup, log: log}
}

// Run sweeps at least twice per horizon until ctx is done, then returns nil. A sweep that fails is
// logged and made up for by the next.
func (s *Sweeper) Run(ctx context.Context) error {
	interval := max(minSweep, s.setup.streams.ZombieHorizon/2)
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

// agedPage is a ledger page as a sweep sees it.
type agedPage struct {
	bucket bucket
	seq    uint64
	stored time.Time
}

// Sweep removes the buckets that are due, and returns how many pages went.
func (s *Sweeper) Sweep(ctx context.Context) (purged uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	floor, err := s.floor(ctx)
	if err != nil {
		return 0, fmt.Errorf("sweep the ledger: %w", err)
	}
	done, err := s.conn.js.Stream(ctx, StreamDone)
	if err != nil {
		return 0, Explain("sweep the ledger: look up stream "+StreamDone, err)
	}
	// The broker's clock, like the times of the pages.
	due := done.CachedInfo().TimeStamp.Add(-s.setup.streams.ZombieHorizon)
	for next, fruitless := uint64(1), 0; fruitless < maxFruitless; {
		pages, err := s.pagesFrom(ctx, next)
		if err != nil {
			return purged, fmt.Errorf("sweep the ledger: %w", err)
		}
		n, err := s.sweepChunk(ctx, pages, floor, due)
		purged += n
		if err != nil {
			return purged, fmt.Errorf("sweep the ledger: %w", err)
		}
		if len(pages) == 0 || !pages[len(pages)-1].stored.Before(due) {
			return purged, nil
		}
		next = pages[len(pages)-1].seq + 1
		if fruitless++; n > 0 {
			fruitless = 0
		}
	}
	return purged, nil
}

// floor is what is settled at the broker: every job of the epoch up to seq, and of every
// older epoch.
type floor struct {
	epoch   string
	created time.Time
	seq     uint64
}

func (s *Sweeper) floor(ctx context.Context) (floor, error) {
	stream, err := s.conn.Stream(ctx, s.setup.streams.Stream)
	if err != nil {
		return floor{}, err
	}
	consumer, err := s.conn.Consumer(ctx, s.setup.streams.Stream, s.setup.pool)
	if err != nil {
		return floor{}, err
	}
	created := stream.CachedInfo().Created
	return floor{epoch: jobs.Epoch(created), created: created, seq: consumer.AckFloor.Stream}, nil
}

// passed reports whether every job of a bucket is settled at the broker.
func (f floor) passed(b bucket) bool {
	if b.epoch == f.epoch {
		return (b.number+1)*jobs.PagesPerBucket*jobs.PageSize <= f.seq+1
	}
	nanos, err := strconv.ParseInt(b.epoch, 36, 64)
	return err == nil && time.Unix(0, nanos).Before(f.created)
}

// sweepChunk purges the buckets that pages name and that are due.
func (s *Sweeper) sweepChunk(ctx context.Context, pages []agedPage, f floor, due time.Time) (purged uint64, err error) {
	judged := make(map[bucket]bool)
	for _, page := range pages {
		if !page.stored.Before(due) {
			break
		}
		if judged[page.bucket] || !f.passed(page.bucket) {
			continue
		}
		judged[page.bucket] = true
		n, err := s.sweepBucket(ctx, page.bucket, due)
		if err != nil {
			return purged, err
		}
		purged += n
	}
	return purged, nil
}

// sweepBucket purges a bucket if its newest page is old enough.
func (s *Sweeper) sweepBucket(ctx context.Context, b bucket, due time.Time) (uint64, error) {
	filter := ledger.BucketFilter(s.setup.pool, b.epoch, b.number)
	newest, err := s.newest(ctx, filter)
	if err != nil {
		return 0, fmt.Errorf("read the newest page of %s: %w", filter, err)
	}
	if newest.IsZero() || !newest.Before(due) {
		return 0, nil
	}
	n, err := s.purge(ctx, filter)
	if err != nil {
		return 0, fmt.Errorf("purge %s: %w", filter, err)
	}
	return n, nil
}

// newest returns the time of the newest message on the subjects that filter matches, zero if
// there is none any more: another replica sweeps as well.
func (s *Sweeper) newest(ctx context.Context, filter string) (time.Time, error) {
	request, err := json.Marshal(struct {
		Last string `json:"last_by_subj"`
	}{filter})
	if err != nil {
		return time.Time{}, fmt.Errorf("encode the request: %w", err)
	}
	answer, err := s.conn.nc.RequestWithContext(ctx, directSubject(StreamDone), request)
	if err != nil {
		return time.Time{}, err
	}
	if answer.Header.Get("Status") == "404" {
		return time.Time{}, nil
	}
	m, err := readStored(answer)
	return m.time, err
}

// purge removes the messages on the subjects that filter matches. It asks the API itself: that
// of nats.go does not tell how many went.
func (s *Sweeper) purge(ctx context.Context, filter string) (uint64, error) {
	request, err := json.Marshal(struct {
		Filter string `json:"filter"`
	}{filter})
	if err != nil {
		return 0, fmt.Errorf("encode the request: %w", err)
	}
	answer, err := s.conn.nc.RequestWithContext(ctx, "$JS.API.STREAM.PURGE."+StreamDone, request)
	if err != nil {
		return 0, err
	}
	var result struct {
		Error  *jetstream.APIError `json:"error"`
		Purged uint64              `json:"purged"`
	}
	if err := json.Unmarshal(answer.Data, &result); err != nil {
		return 0, fmt.Errorf("read the answer: %w", err)
	}
	if result.Error != nil {
		return 0, result.Error
	}
	return result.Purged, nil
}

// pagesFrom reads the next pages of the pool, oldest first, from sequence seq of DONE on.
func (s *Sweeper) pagesFrom(ctx context.Context, seq uint64) (pages []agedPage, err error) {
	request, err := json.Marshal(struct {
		Seq   uint64 `json:"seq"`
		Next  string `json:"next_by_subj"`
		Batch int    `json:"batch"`
	}{seq, ledger.PagesFilter(s.setup.pool), sweepChunk})
	if err != nil {
		return nil, fmt.Errorf("encode a read of pages: %w", err)
	}
	_, err = s.conn.directGet(ctx, StreamDone, request, func(m stored) {
		tokens := strings.Split(m.subject, ".")
		if len(tokens) != 6 {
			return
		}
		if number, ok := parseUint(tokens[4]); ok {
			pages = append(pages, agedPage{bucket: bucket{tokens[3], number}, seq: m.seq, stored: m.time})
		}
	})
	return pages, err
}
