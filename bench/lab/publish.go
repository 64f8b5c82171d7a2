package lab

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// stallWait is how long a publish may wait for earlier ones to be confirmed.
const stallWait = 30 * time.Second

// publishAll stores n messages and waits for the broker's word on every one.
func (l *Lab) publishAll(ctx context.Context, n int, message func(int) *nats.Msg) error {
	for i := range n {
		if _, err := l.js.PublishMsgAsync(message(i), jetstream.WithStallWait(stallWait)); err != nil {
			return fmt.Errorf("publish message %d of %d: %w", i, n, err)
		}
	}
	return l.published(ctx)
}

func (l *Lab) published(ctx context.Context) error {
	select {
	case <-l.js.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for %d publishes to be confirmed: %w", l.js.PublishAsyncPending(), context.Cause(ctx))
	}
}

// publishEvenly publishes s.Jobs at s.Rate and returns when each was sent, by stream
// sequence from 1. What is due is sent once a millisecond, as close as a timer comes.
func (l *Lab) publishEvenly(ctx context.Context, s Spec) ([]time.Time, error) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	sent := make([]time.Time, 0, s.Jobs)
	start := time.Now()
	for len(sent) < s.Jobs {
		due := s.due(time.Since(start))
		for n := len(sent); n < due; n++ {
			m := s.message(n)
			sent = append(sent, time.Now())
			if _, err := l.js.PublishMsgAsync(m, jetstream.WithStallWait(stallWait)); err != nil {
				return nil, fmt.Errorf("publish job %d: %w", n, err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("publish at %.0f jobs/s: %w", s.Rate, context.Cause(ctx))
		}
	}
	return sent, l.published(ctx)
}

// due returns how many jobs are to be out after so long: whole bursts, until all are.
func (s *Spec) due(after time.Duration) int {
	n := min(s.Jobs, int(after.Seconds()*s.Rate))
	if n < s.Jobs {
		n -= n % max(s.Burst, 1)
	}
	return n
}

// fillLedger stores n records of a pool that is not running, so that the broker has that
// many more subjects to remember. A record is about as long as one of a real pool.
func (l *Lab) fillLedger(ctx context.Context, c Contender, n int) error {
	if n == 0 {
		return nil
	}
	record := []byte("0123456789abcdef")
	err := l.publishAll(ctx, n, func(page int) *nats.Msg {
		return &nats.Msg{Subject: fmt.Sprintf("done.ledger.other.page.BENCH.bench.%d.%d", page/256, page), Data: record}
	})
	if err != nil {
		return fmt.Errorf("fill the ledger of %s: %w", c.Name, err)
	}
	return nil
}
