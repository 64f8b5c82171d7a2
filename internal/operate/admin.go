package operate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
)

// ErrNotFound is returned when there is no such job, dead letter or replica.
var ErrNotFound = errors.New("not found")

const (
	// maxCounted bounds the subjects whose messages are counted one by one: the server sends
	// a line for each.
	maxCounted = 10_000
	// optionalTimeout bounds what is good to know and may be denied.
	optionalTimeout = time.Second
)

// Admin looks after a pool from outside: what waits, what died, who works.
type Admin struct {
	conn    *bus.Conn
	streams bus.Streams
	pool    string
}

// NewAdmin returns the administration of a pool.
func NewAdmin(conn *bus.Conn, streams bus.Streams, pool string) *Admin {
	return &Admin{conn: conn, streams: streams, pool: pool}
}

// asItStands returns the administration of what the pool takes by its consumer on the server: whoever gives a command
// may have other ROLLCALL_SUBJECTS, and would find, or end, the jobs of another pool. The error wraps [bus.ErrMissing] if
// there is no consumer; the pool that is returned then takes nothing.
func (a *Admin) asItStands(ctx context.Context) (*Admin, error) {
	pool := *a
	pool.streams.Subjects = nil
	consumer, err := a.conn.Consumer(ctx, a.streams.Stream, a.pool)
	if err != nil {
		return &pool, err
	}
	pool.streams.Subjects = bus.Filters(&consumer.Config)
	return &pool, nil
}

// ledger names what the pool keeps of its jobs.
func (a *Admin) ledger() ledger.Names { return ledger.Names{Pool: a.pool, Stream: a.streams.Stream} }

// State reads what the broker knows of the pool. The error wraps [bus.ErrMissing] if a stream or
// the consumer is missing. Fields that the user has no right to ask for stay zero.
func (a *Admin) State(ctx context.Context) (jobs.PoolState, error) {
	a.conn.Tolerate(a.conn.API("STREAM.MSG.GET."+a.streams.Stream), a.conn.API("INFO"))
	stream, err := a.conn.Stream(ctx, a.streams.Stream)
	if err != nil {
		return jobs.PoolState{}, err
	}
	consumer, err := a.conn.Consumer(ctx, a.streams.Stream, a.pool)
	if err != nil {
		return jobs.PoolState{}, err
	}
	at := consumer.TimeStamp
	if at.IsZero() {
		at = time.Now()
	}
	state := jobs.PoolState{
		Pool: a.pool, At: at,
		Waiting: consumer.NumPending, InFlight: consumer.NumAckPending,
		Redelivered: consumer.NumRedelivered, Pulls: consumer.NumWaiting,
		Streams: []jobs.StreamState{streamState(stream.CachedInfo())},
	}
	if consumer.Paused {
		state.PausedUntil = at.Add(consumer.PauseRemaining)
	}
	if err := a.readStreams(ctx, &state); err != nil {
		return jobs.PoolState{}, err
	}
	if state.Oldest, err = a.oldest(ctx, stream, consumer); err != nil {
		return jobs.PoolState{}, err
	}
	if state.Stuck, err = a.stuck(ctx, stream, &state); err != nil {
		return jobs.PoolState{}, err
	}
	a.readStore(ctx, &state)
	return state, nil
}

// readStreams adds the other streams and the dead letters.
func (a *Admin) readStreams(ctx context.Context, state *jobs.PoolState) error {
	for _, name := range []string{a.conn.Done(), bus.StreamDead} {
		stream, err := a.conn.Stream(ctx, name)
		if err != nil {
			return err
		}
		info := stream.CachedInfo()
		if name != a.streams.Stream { // a pool may take events for its jobs
			state.Streams = append(state.Streams, streamState(info))
		}
		if name != bus.StreamDead || info.State.Msgs == 0 {
			continue
		}
		if state.DeadLetters = info.State.Msgs; info.State.NumSubjects <= maxCounted {
			if state.DeadLetters, err = a.matching(ctx, stream, bus.DeadSubject(a.pool, ">")); err != nil {
				return err
			}
		}
	}
	a.readLater(ctx, state)
	return nil
}

// readLater adds the stream of delayed jobs, if there is one and the user may look at it.
func (a *Admin) readLater(ctx context.Context, state *jobs.PoolState) {
	state.Delayed = -1
	a.conn.Tolerate(a.conn.API("STREAM.INFO." + bus.StreamLater))
	if !a.streams.Delays(a.conn) || a.conn.WasDenied("publish "+a.conn.API("STREAM.INFO."+bus.StreamLater)) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, optionalTimeout)
	defer cancel()
	stream, err := a.conn.Stream(ctx, bus.StreamLater)
	if err != nil {
		return
	}
	state.Streams = append(state.Streams, streamState(stream.CachedInfo()))
	if n, err := a.countDelayed(ctx, stream); err == nil {
		state.Delayed = int64(n)
	}
}

// countDelayed counts what is in LATER and is no schedule: the jobs that wait, and for a moment those
// that have just become due.
func (a *Admin) countDelayed(ctx context.Context, later jetstream.Stream) (uint64, error) {
	stored := later.CachedInfo().State.Msgs
	if stored == 0 {
		return 0, nil
	}
	schedules, err := a.matching(ctx, later, bus.ScheduleSubject("*"))
	return stored - min(schedules, stored), err
}

func streamState(info *jetstream.StreamInfo) jobs.StreamState {
	state := jobs.StreamState{
		Name: info.Config.Name, Messages: info.State.Msgs, Bytes: info.State.Bytes, Replicas: max(info.Config.Replicas, 1),
		MaxBytes: uint64(max(info.Config.MaxBytes, 0)),
	}
	if info.Cluster == nil {
		return state
	}
	state.Leader = info.Cluster.Leader
	for _, peer := range info.Cluster.Replicas {
		if peer.Offline || !peer.Current {
			state.Lagging++
		}
	}
	return state
}

// matching counts the messages of a stream whose subjects match filter.
func (a *Admin) matching(ctx context.Context, stream jetstream.Stream, filter string) (n uint64, err error) {
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return 0, a.conn.Explain("count the messages on "+filter, err)
	}
	for _, messages := range info.State.Subjects {
		n += messages
	}
	return n, nil
}

// oldest is when the oldest job on the pool's subjects was published. A user who may not read
// messages gets that of the stream, which holds other pools' too. In a stream that keeps what is
// done the oldest job is one that the consumer has not settled; 0 for a user without the right to read.
func (a *Admin) oldest(ctx context.Context, stream jetstream.Stream, consumer *jetstream.ConsumerInfo) (oldest time.Time, err error) {
	state := stream.CachedInfo().State
	if stream.CachedInfo().Config.Retention != jetstream.WorkQueuePolicy {
		if consumer.NumPending == 0 && consumer.NumAckPending == 0 {
			return time.Time{}, nil
		}
		state.FirstSeq, state.FirstTime = max(state.FirstSeq, consumer.AckFloor.Stream+1), time.Time{}
	}
	if state.Msgs == 0 {
		return time.Time{}, nil
	}
	if a.conn.WasDenied("publish " + a.conn.API("STREAM.MSG.GET."+a.streams.Stream)) {
		return state.FirstTime, nil
	}
	ctx, cancel := context.WithTimeout(ctx, optionalTimeout)
	defer cancel()
	for _, filter := range a.streams.Subjects {
		first, err := a.conn.FirstTime(ctx, a.streams.Stream, filter, state.FirstSeq)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return state.FirstTime, nil
		case err != nil:
			return time.Time{}, a.conn.Explain("read the oldest job on "+filter, err)
		case first.IsZero():
		case oldest.IsZero() || first.Before(oldest):
			oldest = first
		}
	}
	return oldest, nil
}

// stuck counts jobs of the pool that nobody will deliver: the server leaves a job in the stream once it was
// delivered MaxDeliver times.
func (a *Admin) stuck(ctx context.Context, stream jetstream.Stream, state *jobs.PoolState) (int64, error) {
	stored := stream.CachedInfo().State
	if stream.CachedInfo().Config.Retention != jetstream.WorkQueuePolicy {
		// Delivered jobs stay in such a stream, done or not: their number says nothing.
		return 0, nil
	}
	known := state.Waiting + uint64(max(state.InFlight, 0))
	if stored.Msgs <= known {
		return 0, nil
	}
	if stored.NumSubjects > maxCounted {
		return -1, nil
	}
	var all uint64
	for _, filter := range a.streams.Subjects {
		n, err := a.matching(ctx, stream, filter)
		if err != nil {
			return 0, err
		}
		all += n
	}
	return max(int64(all)-int64(known), 0), nil
}

// readStore adds the use of the account's storage, if the user may ask for it.
func (a *Admin) readStore(ctx context.Context, state *jobs.PoolState) {
	if a.conn.WasDenied("publish " + a.conn.API("INFO")) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, optionalTimeout)
	defer cancel()
	account, err := a.conn.JetStream().AccountInfo(ctx)
	if err != nil {
		return
	}
	tier := bus.Tier(account, a.streams.Replicas)
	state.StoreUsed = tier.Store
	state.StoreLimit = uint64(max(tier.Limits.MaxStore, 0))
}

// Pause keeps the broker from handing out jobs of the pool until then; jobs that were handed out are
// finished. The pause is kept by the broker, so replicas may come and go.
func (a *Admin) Pause(ctx context.Context, until time.Time) error {
	if _, err := a.conn.JetStream().PauseConsumer(ctx, a.streams.Stream, a.pool, until); err != nil {
		return a.explainConsumer("pause", err)
	}
	return nil
}

// Resume ends a pause. It is no error if there was none.
func (a *Admin) Resume(ctx context.Context) error {
	if _, err := a.conn.JetStream().ResumeConsumer(ctx, a.streams.Stream, a.pool); err != nil {
		return a.explainConsumer("resume", err)
	}
	return nil
}

func (a *Admin) explainConsumer(verb string, err error) error {
	name := "consumer " + a.streams.Stream + "/" + a.pool
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("%s %s: %w; is ROLLCALL_POOL right? If so, 'worker setup' creates it", verb, name, bus.ErrMissing)
	}
	return a.conn.Explain(verb+" "+name, err)
}
