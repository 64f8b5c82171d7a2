package lab

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// purgeEvery is how often the settled part of a stream that keeps everything is purged.
const purgeEvery = 250 * time.Millisecond

// awaitEnd returns when every job is settled.
func (l *Lab) awaitEnd(ctx context.Context, c Contender, s Spec) error {
	if s.Keep {
		return l.purgeSettled(ctx, c.consumer)
	}
	return l.awaitEmpty(ctx)
}

// purgeSettled removes the jobs below the consumer's ack floor again and again, and returns
// when it has removed the last. Delayed jobs lie in the same stream and may wait below the
// floor, so a purge has to name the subject.
func (l *Lab) purgeSettled(ctx context.Context, consumer string) error {
	stream, err := l.js.Stream(ctx, jobStream)
	if err != nil {
		return fmt.Errorf("look at the job stream: %w", err)
	}
	watched, err := stream.Consumer(ctx, consumer)
	if err != nil {
		return fmt.Errorf("look at consumer %s: %w", consumer, err)
	}
	last := stream.CachedInfo().State.LastSeq
	for purged := time.Now(); ; {
		info, err := watched.Info(ctx)
		if err != nil {
			return fmt.Errorf("look at consumer %s: %w", consumer, err)
		}
		floor := info.AckFloor.Stream
		if floor >= last || time.Since(purged) >= purgeEvery {
			if err := stream.Purge(ctx, jetstream.WithPurgeSubject("jobs.>"), jetstream.WithPurgeSequence(floor+1)); err != nil {
				return fmt.Errorf("purge the settled jobs: %w", err)
			}
			purged = time.Now()
		}
		if floor >= last {
			return nil
		}
		if err := sleep(ctx, pollEvery, l.replicas...); err != nil {
			return fmt.Errorf("wait for the last of the jobs, %d of %d are settled: %w", floor, last, err)
		}
	}
}
