package pool_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/pool"
)

// machine is a pool on parts that cost nothing: a source that never runs dry of what it was
// given, services that say ok and share that among all jobs, a ledger that always agrees. What is
// left is the engine.
type machine struct {
	stock   []jobs.Delivery
	orders  chan int
	left    int
	acked   atomic.Int64
	goal    atomic.Int64
	reached chan struct{}
}

// maxPerJob is what the engine and the rules may allocate for a job, from its delivery to its
// ack. The client's part, a message with its subjects and body, is not in it. Under the race
// detector a sync.Pool loses a quarter of what it is given, so that is where it is close.
const maxPerJob = 1.5

// maxBytesPerJob is how many bytes that may be: less than a job, which has half a kilobyte, and
// what it is settled on.
const maxBytesPerJob = 700

const benchBatch = 96

func newMachine(tb testing.TB, services int) *machine {
	tb.Helper()
	m := &machine{orders: make(chan int), reached: make(chan struct{})}
	for seq := range uint64(benchBatch * 8) {
		d := delivery(seq + 1)
		d.Received = time.Now()
		m.stock = append(m.stock, d)
	}
	cfg := settings()
	cfg.BatchSize, cfg.BatchesInFlight = benchBatch, 8
	parts := pool.Parts{
		Source: m, Settler: m, Ledger: m, DeadLetters: m, Observer: newCounter(), MaxPayload: fixed(1 << 20),
		Lease: func() time.Duration { return lease }, Now: time.Now,
		Log: zerolog.Nop(), NewID: func() string { return "0190a6e0-0000-7000-8000-000000000000" },
	}
	well := allOK(tb.Context(), &jobs.Call{Jobs: make([]*jobs.Job, benchBatch)}).Replies
	for i := range services {
		parts.Services = append(parts.Services, service{name: fmt.Sprintf("s%d", i), answer: func(_ context.Context, c *jobs.Call) jobs.CallResult {
			return jobs.CallResult{Replies: well[:len(c.Jobs)], Tries: 1, BodyRead: true}
		}})
	}
	p, err := pool.New(cfg, parts)
	if err != nil {
		tb.Fatal(err)
	}
	intake, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(intake, context.Background()) }()
	tb.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
	return m
}

// work takes n jobs from their delivery to their ack.
func (m *machine) work(n int) {
	m.goal.Add(int64(n))
	m.orders <- n
	<-m.reached
}

func (m *machine) Receive(ctx context.Context, room jobs.Room) ([]jobs.Delivery, error) {
	if m.left == 0 {
		select {
		case m.left = <-m.orders:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	n := min(room.Jobs, m.left, len(m.stock))
	m.left -= n
	return m.stock[:n], nil
}

func (m *machine) Ack(done ...*jobs.Delivery) error {
	if m.acked.Add(int64(len(done))) == m.goal.Load() {
		m.reached <- struct{}{}
	}
	return nil
}

func (m *machine) Nak(*jobs.Delivery, time.Duration) error                 { return nil }
func (m *machine) Extend(*jobs.Delivery) error                             { return nil }
func (m *machine) Commit(context.Context, *jobs.Settlement) error          { return nil }
func (m *machine) Mark(context.Context, []jobs.Mark) error                 { return nil }
func (m *machine) Publish(context.Context, []jobs.DeadLetter) error        { return nil }
func (m *machine) Load(context.Context, []jobs.Ref) ([]jobs.Record, error) { return nil, nil }

// It counts the allocations of the whole process, so it cannot run beside other tests.
func TestAllocationsPerJobStayWithinTheBudget(t *testing.T) { //nolint:paralleltest // see above
	const n = 100 * benchBatch
	m := newMachine(t, 3)
	m.work(n) // the first run fills buffers and pools
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const runs = 5
	perJob := testing.AllocsPerRun(runs, func() { m.work(n) }) / n
	runtime.ReadMemStats(&after)
	bytes := (after.TotalAlloc - before.TotalAlloc) / (runs + 1) / n // there is one run to warm up
	t.Logf("%.2f allocations and %d bytes per job", perJob, bytes)
	if perJob > maxPerJob {
		t.Errorf("%.2f allocations per job, the budget is %.2f; see docs/performance.md", perJob, maxPerJob)
	}
	if bytes > maxBytesPerJob {
		t.Errorf("%d bytes allocated per job, the budget is %d: is memory used again?", bytes, maxBytesPerJob)
	}
}

func BenchmarkEngine(b *testing.B) {
	for _, services := range []int{1, 3, 16} {
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) {
			m := newMachine(b, services)
			b.ReportAllocs()
			for b.Loop() {
				m.work(benchBatch * 8)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(benchBatch*8), "ns/job")
			b.ReportMetric(0, "ns/op")
		})
	}
}
