package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
)

// ErrTakeOver is returned where a ledger of another pool has to be taken over first.
var ErrTakeOver = errors.New("another pool's ledger knows jobs that wait here")

// maxLooks bounds how many jobs of the stream are compared with a ledger of another pool; beyond
// it some of them are taken to be in it.
const maxLooks = 256

// names are those of the pool's ledger.
func (s *Setup) names() ledger.Names { return ledger.Names{Pool: s.pool, Stream: s.streams.Stream} }

// CheckPredecessor returns an error that wraps [ErrTakeOver] if jobs that wait for this pool are
// known to the ledger of a pool that has no consumer any more: the pool has got another name, and
// would do them again. A pool whose consumer lives has its own jobs, or does all of them as well.
func (s *Setup) CheckPredecessor(ctx context.Context) error {
	stream, err := s.conn.js.Stream(ctx, s.streams.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return s.conn.Explain("look up stream "+s.streams.Stream, err)
	}
	store := NewUpkeep(s.conn, s)
	first, err := s.first(ctx, stream, store)
	if first == 0 || err != nil {
		return err
	}
	others, err := ledger.Others(ctx, store, s.names(), jobs.Epoch(stream.CachedInfo().Created))
	if err != nil {
		return err
	}
	for pool, known := range others {
		lives, err := s.lives(ctx, stream, pool)
		if err != nil {
			return err
		}
		if lives {
			continue
		}
		waits, err := s.anyWaits(ctx, known, first)
		if err != nil {
			return fmt.Errorf("look for jobs of pool %s: %w", pool, err)
		}
		if waits {
			return fmt.Errorf("pool %s: %w: 'ROLLCALL_POOL=%s worker setup --take-over %s' carries on from it; "+
				"'nats stream purge DONE --subject done.ledger.%s.>' forgets it, and its jobs are done again", pool, ErrTakeOver, s.pool, pool, pool)
		}
	}
	return nil
}

// first returns the lowest sequence of a job that waits for the pool and could be in the ledger of
// another; 0 if it has worked on the stream before, or there is nothing to look at, or [Setup.Ensure]
// reports that no ledger can be read: then it needs nobody's ledger but its own.
func (s *Setup) first(ctx context.Context, stream jetstream.Stream, store ledger.Upkeep) (uint64, error) {
	done, err := s.conn.js.Stream(ctx, s.conn.Done())
	if errors.Is(err, jetstream.ErrStreamNotFound) || err == nil && !done.CachedInfo().Config.AllowDirect {
		return 0, nil
	}
	if err != nil {
		return 0, s.conn.Explain("look up stream "+s.conn.Done(), err)
	}
	consumer, err := stream.Consumer(ctx, s.pool)
	if err != nil { // one that cannot be looked up is made or reported later
		if s.streams.Start == StartNew && stream.CachedInfo().Config.Retention != jetstream.WorkQueuePolicy {
			return 0, nil
		}
		return 1, nil
	}
	newest, err := store.Newest(ctx, s.names().Pages())
	if err != nil {
		return 0, s.conn.Explain("look at the ledger", err)
	}
	if newest.Seq > 0 {
		return 0, nil
	}
	return consumer.CachedInfo().AckFloor.Stream + 1, nil
}

// lives reports whether a pool has its consumer. One that may not be looked at counts as alive.
func (s *Setup) lives(ctx context.Context, stream jetstream.Stream, pool string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	_, err := stream.Consumer(ctx, pool)
	switch {
	case err == nil, s.conn.WasDenied("publish " + s.conn.API("CONSUMER.INFO."+s.streams.Stream+"."+pool)):
		return true, nil
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		return false, nil
	default:
		return false, s.conn.Explain("look up consumer "+pool, err)
	}
}

// anyWaits reports whether one of some jobs, lowest first, is still in the stream, at first or
// behind it, and matches the pool's subjects.
func (s *Setup) anyWaits(ctx context.Context, known []uint64, first uint64) (bool, error) {
	for _, filter := range s.streams.Subjects {
		from := max(known[0], first)
		for range maxLooks {
			next, err := s.conn.fromLeader(ctx, s.streams.Stream, messageRequest{Seq: max(from, 1), Next: filter})
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				break
			}
			if err != nil {
				return false, err
			}
			i, found := slices.BinarySearch(known, next.Sequence)
			if found {
				return true, nil
			}
			if i == len(known) {
				break
			}
			from = known[i]
		}
	}
	return false, nil
}

// TakeOver makes the pool the successor of another one over the same stream: it moves the ledger,
// removes the other pool's consumer, and returns how many records it has moved. Where the stream keeps what is
// done, the new consumer begins where the other one has got to. The other pool
// must not run any more. After a crash, running it again finishes it. The error wraps [ErrRefusedSetup] if one pool cannot
// be the successor of the other, [ErrMissing] if there is no other one.
func (s *Setup) TakeOver(ctx context.Context, pool string) (moved int, err error) {
	switch {
	case pool == s.pool:
		return 0, fmt.Errorf("take pool %s over: %w: it is this pool; set ROLLCALL_POOL to the new name", pool, ErrRefusedSetup)
	case s.streams.Done == DoneOwn:
		return 0, fmt.Errorf("take pool %s over: %w: with ROLLCALL_DONE=own each pool has its ledger in a stream of its own, from which no other takes it; "+
			"let pool %s finish what waits, then remove it ('nats consumer rm %s %s') and start the new one", pool, ErrRefusedSetup, pool, s.streams.Stream, pool)
	}
	stream, err := s.conn.js.Stream(ctx, s.streams.Stream)
	if err != nil {
		return 0, s.conn.Explain("look up stream "+s.streams.Stream, err)
	}
	store := NewUpkeep(s.conn, s)
	move := ledger.TakeOver{
		From: ledger.Names{Pool: pool, Stream: s.streams.Stream}, To: s.names(),
		Own:      ledger.Retention{Horizon: s.streams.ZombieHorizon, TTL: s.streams.LedgerTTL},
		TallyTTL: s.streams.TallyTTL(),
	}
	state := stream.CachedInfo().State
	move.Fence = ledger.Range{Epoch: jobs.Epoch(stream.CachedInfo().Created), First: state.FirstSeq, Last: state.LastSeq}
	consumer, err := stream.Consumer(ctx, pool)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		newest, err := store.Newest(ctx, move.From.All())
		if err != nil {
			return 0, s.conn.Explain("look for the ledger of pool "+pool, err)
		}
		if _, err := stream.Consumer(ctx, s.pool); newest.Seq == 0 && errors.Is(err, jetstream.ErrConsumerNotFound) {
			return 0, fmt.Errorf("take pool %s over: it is %w: stream %s has no consumer of that name, and %s no ledger", pool, ErrMissing, s.streams.Stream, s.conn.Done())
		}
		return move.Run(ctx, store)
	}
	if err != nil {
		return 0, s.conn.Explain("look up consumer "+pool, err)
	}
	info := consumer.CachedInfo()
	keeps := stream.CachedInfo().Config.Retention != jetstream.WorkQueuePolicy
	if err := s.succeeds(ctx, stream, info, keeps); err != nil {
		return 0, fmt.Errorf("take pool %s over: %w", pool, err)
	}
	if info.NumWaiting > 0 {
		return 0, fmt.Errorf("take pool %s over: %d requests of its replicas wait for jobs; stop them first", pool, info.NumWaiting)
	}
	move.Fence.First, move.Fence.Last = info.AckFloor.Stream+1, info.Delivered.Stream
	if moved, err = move.Run(ctx, store); err != nil {
		return moved, err
	}
	if keeps {
		next := consumerObject{setup: s, want: s.consumerConfig(), from: info.AckFloor.Stream + 1}
		if err := next.create(ctx); err != nil && !errors.Is(err, jetstream.ErrConsumerExists) {
			return moved, s.conn.Explain("create "+next.name(), err)
		}
	}
	if err := stream.DeleteConsumer(ctx, pool); err != nil {
		return moved, s.conn.Explain("remove consumer "+pool, err)
	}
	late, err := move.Run(ctx, store) // what was committed until the consumer was gone
	return moved + late, err
}

// Filters are the subjects that a consumer takes.
func Filters(config *jetstream.ConsumerConfig) []string {
	switch {
	case config.FilterSubject != "":
		return []string{config.FilterSubject}
	case len(config.FilterSubjects) == 0:
		return []string{">"}
	default:
		return config.FilterSubjects
	}
}

// succeeds returns why the pool cannot be the successor of one with this consumer. Where the stream keeps what is done,
// both take the same from the same place on.
func (s *Setup) succeeds(ctx context.Context, stream jetstream.Stream, old *jetstream.ConsumerInfo, keeps bool) error {
	filters := Filters(&old.Config)
	if left := beyond(filters, s.streams.Subjects); len(left) > 0 {
		return fmt.Errorf("%w: it takes %s, and this pool does not: its jobs would belong to nobody; set ROLLCALL_SUBJECTS to what it takes", ErrRefusedSetup, strings.Join(left, ", "))
	}
	if !keeps {
		return nil
	}
	if more := beyond(s.streams.Subjects, filters); len(more) > 0 {
		return fmt.Errorf("%w: it does not take %s, and stream %s keeps what is done: rename the pool first, and let it take more afterwards", ErrRefusedSetup, strings.Join(more, ", "), s.streams.Stream)
	}
	own, err := stream.Consumer(ctx, s.pool)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil
	}
	if err != nil {
		return s.conn.Explain("look up consumer "+s.pool, err)
	}
	if has, want := own.CachedInfo().AckFloor.Stream, old.AckFloor.Stream; has != want {
		return fmt.Errorf("%w: this pool has a consumer, which goes on behind message %d, and that one has got to %d: 'nats consumer rm %s %s -f', then take it over again",
			ErrRefusedSetup, has, want, s.streams.Stream, s.pool)
	}
	return nil
}

// beyond returns the filters that none of others covers.
func beyond(filters, others []string) (left []string) {
	for _, filter := range filters {
		if !slices.ContainsFunc(others, func(other string) bool { return jobs.SubjectCovers(other, filter) }) {
			left = append(left, filter)
		}
	}
	return left
}
