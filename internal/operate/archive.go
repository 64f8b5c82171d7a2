package operate

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
)

// Since calls each for the stored events of a pool from a time on, in the order of commit: first
// those that only an archive still holds, then those of DONE. With follow it goes on as
// [Events.Stored] does.
func (e *Events) Since(ctx context.Context, pool string, since time.Time, follow bool, each func(Event) error) error {
	from, err := e.archived(ctx, pool, since, each)
	if err != nil {
		return err
	}
	return e.Stored(ctx, pool, from, follow, each)
}

// archived reads the archive, if there is one, and returns the sequence of DONE to go on from.
func (e *Events) archived(ctx context.Context, pool string, since time.Time, each func(Event) error) (next uint64, err error) {
	stream, err := e.conn.Stream(ctx, e.conn.History())
	if errors.Is(err, bus.ErrMissing) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	config := jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{bus.HistoryFilter(pool)}, DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &since,
	}
	for m, err := range readStored(ctx, e.conn, stream, config, "read the archive", false) {
		if err != nil {
			return 0, err
		}
		if subject, seq, ok := bus.ArchivedEvent(m.Headers().Get("Nats-Stream-Source")); ok {
			next = seq + 1
			if event, ok := readEvent(subject, bus.EventPrefix, seq, m.Timestamp, m.Data()); ok {
				if err := each(event); err != nil {
					return 0, err
				}
			}
		}
	}
	return next, nil
}
