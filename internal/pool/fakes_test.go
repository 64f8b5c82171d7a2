package pool_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/pool"
)

// broker is an in-memory source and settler. It hands out what push gave it, and writes down
// every settlement in order.
type broker struct {
	mu      sync.Mutex
	waiting []jobs.Delivery
	arrived chan struct{}
	rooms   []jobs.Room
	log     *journal
	down    bool
	// delays are those of the naks, by sequence.
	delays map[uint64][]time.Duration
}

// journal is the order in which things happened, over all fakes of a test.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (l *journal) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

func (l *journal) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

func (l *journal) count(line string) int {
	n := 0
	for _, l := range l.all() {
		if l == line {
			n++
		}
	}
	return n
}

func newBroker(log *journal) *broker {
	return &broker{arrived: make(chan struct{}, 1), log: log, delays: map[uint64][]time.Duration{}}
}

func (b *broker) push(ds ...jobs.Delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = append(b.waiting, ds...)
	select {
	case b.arrived <- struct{}{}:
	default:
	}
}

func (b *broker) setDown(down bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = down
}

func (b *broker) Receive(ctx context.Context, room jobs.Room) ([]jobs.Delivery, error) {
	for {
		b.mu.Lock()
		if n := fitting(b.waiting, room); n > 0 && ctx.Err() == nil {
			b.rooms = append(b.rooms, room)
			out := slices.Clone(b.waiting[:n])
			b.waiting = b.waiting[n:]
			for i := range out {
				out[i].Received = time.Now()
			}
			b.mu.Unlock()
			return out, nil
		}
		b.mu.Unlock()
		select {
		case <-b.arrived:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// fitting returns how many deliveries room holds, at least one of those that there are.
func fitting(waiting []jobs.Delivery, room jobs.Room) (n int) {
	for n < len(waiting) && n < room.Jobs {
		if room.Bytes -= int64(len(waiting[n].Data)); room.Bytes < 0 && n > 0 {
			break
		}
		n++
	}
	return n
}

func (b *broker) Ack(d *jobs.Delivery) error {
	b.log.add("ack %d", d.Ref.Seq)
	return nil
}

func (b *broker) Nak(d *jobs.Delivery, delay time.Duration) error {
	b.log.add("nak %d", d.Ref.Seq)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.delays[d.Ref.Seq] = append(b.delays[d.Ref.Seq], delay)
	return nil
}

func (b *broker) Extend(d *jobs.Delivery) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		return errors.New("not connected")
	}
	b.log.add("extend %d", d.Ref.Seq)
	return nil
}

// ledger is an in-memory ledger that writes down commits.
type ledger struct {
	mu      sync.Mutex
	records map[jobs.Ref]jobs.Record
	commits []*jobs.Settlement
	log     *journal
	// hold, when set, keeps commits waiting until it is closed.
	hold chan struct{}
	// holdRest, when set, becomes hold once a commit was in conflict.
	holdRest chan struct{}
	// refuse, when set, is what every commit returns.
	refuse error
}

func newLedger(log *journal) *ledger {
	return &ledger{records: map[jobs.Ref]jobs.Record{}, log: log}
}

func (l *ledger) Load(_ context.Context, refs []jobs.Ref) ([]jobs.Record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]jobs.Record, len(refs))
	for i, r := range refs {
		out[i] = l.records[r]
	}
	return out, nil
}

func (l *ledger) Commit(ctx context.Context, s *jobs.Settlement) error {
	if l.hold != nil {
		select {
		case <-l.hold:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if l.refuse != nil {
		return l.refuse
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	conflict := &jobs.ConflictError{Final: make([]bool, len(s.Batch.Jobs))}
	refused := false
	for i, j := range s.Batch.Jobs {
		conflict.Final[i] = l.records[j.Ref].Final
		refused = refused || conflict.Final[i]
	}
	if refused {
		if l.holdRest != nil {
			l.hold = l.holdRest
		}
		return conflict
	}
	for i, j := range s.Batch.Jobs {
		l.records[j.Ref] = l.records[j.Ref].Apply(&s.Rulings[i])
	}
	l.commits = append(l.commits, s)
	l.log.add("commit %d", len(s.Batch.Jobs))
	return nil
}

func (l *ledger) Mark(_ context.Context, marks []jobs.Mark) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	conflict, refused := &jobs.ConflictError{Final: make([]bool, len(marks))}, false
	for i, m := range marks {
		conflict.Final[i] = l.records[m.Ref].Final
		refused = refused || conflict.Final[i]
	}
	if refused {
		return conflict
	}
	for _, m := range marks {
		l.records[m.Ref] = m.Apply(l.records[m.Ref])
		l.log.add("mark %d", m.Ref.Seq)
	}
	return nil
}

func (l *ledger) set(seq uint64, r jobs.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records[ref(seq)] = r
}

func (l *ledger) settlements() []*jobs.Settlement {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.commits)
}

// letters is an in-memory dead letter store.
type letters struct{ log *journal }

func (l letters) Publish(_ context.Context, dead []jobs.DeadLetter) error {
	for _, d := range dead {
		l.log.add("dead %d", d.Job.Ref.Seq)
	}
	return nil
}

// service answers calls by a function.
type service struct {
	name     string
	optional bool
	answer   func(ctx context.Context, c *jobs.Call) jobs.CallResult
}

func (s service) Name() string   { return s.name }
func (s service) Required() bool { return !s.optional }
func (s service) Batched() bool  { return true }
func (s service) Call(ctx context.Context, c *jobs.Call) jobs.CallResult {
	return s.answer(ctx, c)
}

// allOK answers ok for every job.
func allOK(_ context.Context, c *jobs.Call) jobs.CallResult {
	replies := make([]jobs.Reply, len(c.Jobs))
	for i := range replies {
		replies[i].Status = jobs.StatusOK
	}
	return jobs.CallResult{Replies: replies, Tries: 1}
}

// hang answers only when the call is cancelled.
func hang(ctx context.Context, _ *jobs.Call) jobs.CallResult {
	<-ctx.Done()
	return jobs.CallResult{Tries: 1, Failure: &jobs.Failure{Reason: jobs.ReasonCanceled, Err: context.Cause(ctx)}}
}

// after answers like answer once d has passed.
func after(d time.Duration, answer func(context.Context, *jobs.Call) jobs.CallResult) func(context.Context, *jobs.Call) jobs.CallResult {
	return func(ctx context.Context, c *jobs.Call) jobs.CallResult {
		select {
		case <-time.After(d):
			return answer(ctx, c)
		case <-ctx.Done():
			return hang(ctx, c)
		}
	}
}

// counter counts occurrences.
type counter struct {
	mu sync.Mutex
	n  map[jobs.Occurrence]int
}

func (o *counter) Batch(ctx context.Context, _ *jobs.Batch) (context.Context, func(*jobs.Settlement)) {
	return ctx, func(*jobs.Settlement) {}
}

func (o *counter) Call(ctx context.Context, _ *jobs.Call) (context.Context, func(*jobs.CallResult)) {
	return ctx, func(*jobs.CallResult) {}
}

func (o *counter) Event(e jobs.Occurrence, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.n[e] += n
}

func (o *counter) of(e jobs.Occurrence) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.n[e]
}

const epoch = "dk3x0q1z7f4w"

func ref(seq uint64) jobs.Ref { return jobs.Ref{Epoch: epoch, Seq: seq} }

func delivery(seq uint64) jobs.Delivery {
	return jobs.Delivery{
		Subject: "jobs.test", Data: []byte(`{"n":1}`), Reply: "$JS.ACK", Source: "/rollcall/JOBS/" + epoch,
		Ref: ref(seq), Delivered: 1, Published: time.Now(),
	}
}

func deliveries(from, to uint64) (out []jobs.Delivery) {
	for seq := from; seq <= to; seq++ {
		out = append(out, delivery(seq))
	}
	return out
}

// rig is a pool on fakes.
type rig struct {
	*broker
	ledger  *ledger
	journal *journal
	counter *counter
	pool    *pool.Pool
	drain   context.CancelFunc
	cut     context.CancelFunc
	ended   chan error
}

// settings are the ones tests start from: batches of two, sealed at once.
func settings() pool.Config {
	return pool.Config{
		BatchSize: 2, BatchBytes: jobs.MiB, BatchLinger: 10 * time.Millisecond, BatchesInFlight: 2, MaxAttempts: 3,
		RetryMin: time.Second, RetryMax: time.Minute, Pool: "test", Replica: "r1", AckWait: 30 * time.Second, MaxPayload: 1 << 20,
	}
}

func start(t *testing.T, cfg pool.Config, services ...pool.Service) *rig {
	t.Helper()
	log := &journal{}
	r := &rig{broker: newBroker(log), ledger: newLedger(log), journal: log, counter: &counter{n: map[jobs.Occurrence]int{}}, ended: make(chan error, 1)}
	return r.start(t, cfg, services...)
}

func (r *rig) start(t *testing.T, cfg pool.Config, services ...pool.Service) *rig {
	t.Helper()
	var ids int
	var mu sync.Mutex
	p, err := pool.New(cfg, pool.Parts{
		Source: r.broker, Settler: r.broker, Ledger: r.ledger, DeadLetters: letters{r.journal},
		Services: services, Observer: r.counter, Log: zerolog.Nop(),
		NewID: func() string {
			mu.Lock()
			defer mu.Unlock()
			ids++
			return fmt.Sprintf("batch-%d", ids)
		},
	})
	if err != nil {
		t.Fatalf("new pool: %v", err)
	}
	r.pool = p
	var intake, work context.Context
	work, r.cut = context.WithCancel(context.Background())
	intake, r.drain = context.WithCancel(work)
	go func() { r.ended <- p.Run(intake, work) }()
	return r
}

// stop drains the pool and returns what Run said.
func (r *rig) stop() error {
	r.drain()
	err := <-r.ended
	r.cut()
	return err
}
