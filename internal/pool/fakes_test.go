package pool_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rollcall/internal/jobs"
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
	// stale leaves alone when deliveries were received.
	stale bool
	// extending, when set, is called before a lease is extended.
	extending func()
	// again redelivers what is nak'd.
	again bool
	// delays are those of the naks, and bodies those of the jobs, by sequence.
	delays map[uint64][]time.Duration
	bodies map[uint64][]byte
}

// journal is the order in which things happened, over all fakes of a test.
type journal struct {
	mu    sync.Mutex
	lines []string
	// awaited is closed when the line that somebody waits for is added.
	awaited chan struct{}
	line    string
}

// wait returns once a line was added.
func (l *journal) wait(line string) {
	l.mu.Lock()
	if slices.Contains(l.lines, line) {
		l.mu.Unlock()
		return
	}
	l.line, l.awaited = line, make(chan struct{})
	awaited := l.awaited
	l.mu.Unlock()
	<-awaited
}

func (l *journal) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := fmt.Sprintf(format, args...)
	l.lines = append(l.lines, line)
	if l.awaited != nil && line == l.line {
		close(l.awaited)
		l.awaited = nil
	}
}

func (l *journal) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

// with returns the lines that begin with a word.
func (l *journal) with(word string) []string {
	return slices.DeleteFunc(l.all(), func(line string) bool { return !strings.HasPrefix(line, word+" ") })
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
	return &broker{arrived: make(chan struct{}, 1), log: log, delays: map[uint64][]time.Duration{}, bodies: map[uint64][]byte{}}
}

func (b *broker) push(ds ...jobs.Delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = append(b.waiting, ds...)
	for i := range ds {
		b.bodies[ds[i].Ref.Seq] = ds[i].Data
	}
	select {
	case b.arrived <- struct{}{}:
	default:
	}
}

// redeliver has jobs delivered again when the delay of their nak is over.
func (b *broker) redeliver() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.again = true
}

// keepReceived hands deliveries out as if they had been received when they say so.
func (b *broker) keepReceived() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stale = true
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
				if !b.stale {
					out[i].Received = time.Now()
				}
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
		if room.Bytes -= waiting[n].Size(); room.Bytes < 0 && n > 0 {
			break
		}
		n++
	}
	return n
}

func (b *broker) Ack(done ...*jobs.Delivery) error {
	for _, d := range done {
		b.log.add("ack %d", d.Ref.Seq)
	}
	return nil
}

func (b *broker) Nak(d *jobs.Delivery, delay time.Duration) error {
	b.log.add("nak %d", d.Ref.Seq)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.delays[d.Ref.Seq] = append(b.delays[d.Ref.Seq], delay)
	if b.again {
		next := *d
		next.Delivered++
		next.Data = b.bodies[d.Ref.Seq]
		time.AfterFunc(delay, func() { b.push(next) })
	}
	return nil
}

func (b *broker) Extend(d *jobs.Delivery) error {
	if b.extending != nil {
		b.extending()
	}
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
	// loaded, when set, is called after records were read.
	loaded func()
	// refuse, when set, is what every commit returns.
	refuse error
}

func newLedger(log *journal) *ledger {
	return &ledger{records: map[jobs.Ref]jobs.Record{}, log: log}
}

func (l *ledger) Load(_ context.Context, refs []jobs.Ref) ([]jobs.Record, error) {
	l.mu.Lock()
	out := make([]jobs.Record, len(refs))
	for i, r := range refs {
		out[i] = l.records[r]
	}
	loaded := l.loaded
	l.mu.Unlock()
	if loaded != nil {
		loaded()
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
	l.commits = append(l.commits, copied(s))
	l.log.add("commit %d", len(s.Batch.Jobs))
	return nil
}

// copied returns a settlement whose memory is its own.
func copied(s *jobs.Settlement) *jobs.Settlement {
	c, batch := *s, *s.Batch
	batch.Jobs = make([]*jobs.Job, len(s.Batch.Jobs))
	for i, j := range s.Batch.Jobs {
		own := *j
		batch.Jobs[i] = &own
	}
	c.Batch, c.Rulings, c.Event = &batch, slices.Clone(s.Rulings), slices.Clone(s.Event)
	c.Replies = make([]jobs.Replies, len(s.Replies))
	for i := range s.Replies {
		c.Replies[i] = slices.Clone(s.Replies[i])
	}
	return &c
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

func (l *ledger) record(seq uint64) jobs.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.records[ref(seq)]
}

func (l *ledger) afterLoad(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loaded = f
}

func (l *ledger) settlements() []*jobs.Settlement {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.commits)
}

// letters is an in-memory dead letter store.
type letters struct {
	log *journal
	// full refuses every letter.
	full atomic.Bool
}

func (l *letters) Publish(_ context.Context, dead []jobs.DeadLetter) error {
	if l.full.Load() {
		return &jobs.LettersError{Refused: slices.Repeat([]bool{true}, len(dead)), Err: errors.New("maximum bytes exceeded")}
	}
	for _, d := range dead {
		if len(d.Job.Data) == 0 {
			l.log.add("dead without its body %d", d.Job.Ref.Seq)
			continue
		}
		l.log.add("dead %d", d.Job.Ref.Seq)
	}
	return nil
}
