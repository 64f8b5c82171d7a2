package pool_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/pool"
)

// lease is that of every delivery.
const lease = 30 * time.Second

// rig is a pool on fakes.
type rig struct {
	// ahead is how far the broker's clock is ahead of this machine's.
	ahead time.Duration
	*broker
	ledger  *ledger
	letters *letters
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
		RetryMin: time.Second, RetryMax: time.Minute, Pool: "test", Replica: "r1",
	}
}

func start(t *testing.T, cfg pool.Config, services ...pool.Service) *rig {
	t.Helper()
	return prepare(t).start(t, cfg, services...)
}

// prepare makes a rig whose pool does not run yet.
func prepare(t *testing.T) *rig {
	t.Helper()
	log := &journal{}
	r := &rig{broker: newBroker(log), ledger: newLedger(log), letters: &letters{log: log}, journal: log, counter: newCounter(), ended: make(chan error, 1)}
	return r
}

// again starts another pool over the same ledger, with a broker of its own.
func (r *rig) again(t *testing.T, cfg pool.Config, services ...pool.Service) *rig {
	t.Helper()
	next := prepare(t)
	next.ledger.records = r.ledger.records
	return next.start(t, cfg, services...)
}

// finished counts the jobs that are final in an event.
func (r *rig) finished() (n int) {
	for _, s := range r.ledger.settlements() {
		for i := range s.Rulings {
			if s.Rulings[i].Outcome.Final() {
				n++
			}
		}
	}
	return n
}

func (r *rig) start(t *testing.T, cfg pool.Config, services ...pool.Service) *rig {
	t.Helper()
	var ids int
	var mu sync.Mutex
	p, err := pool.New(cfg, pool.Parts{
		Source: r.broker, Settler: r.broker, Ledger: r.ledger, DeadLetters: r.letters,
		Services: services, Observer: r.counter, Log: zerolog.Nop(), MaxPayload: func() int { return 1 << 20 },
		Lease: func() time.Duration { return lease }, Now: func() time.Time { return time.Now().Add(r.ahead) },
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
