package pool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
)

// ErrDrainDeadline is returned by [Pool.Run] when work was cut off by the hard deadline.
var ErrDrainDeadline = errors.New("drain deadline reached with batches unfinished; their jobs come back, or are lost in core mode")

// The named points at which a test may stop the process. See [Parts.Probe].
const (
	pointBeforeCall   = "before_call"
	pointFirstReply   = "first_reply"
	pointBeforeCommit = "before_commit"
	pointAfterCommit  = "after_commit"
	pointBetweenAcks  = "between_acks"
)

// Parts are what a pool is made of. All but Probe are required.
type Parts struct {
	Source      Source
	Settler     Settler
	Ledger      Ledger
	DeadLetters DeadLetters
	// Services in the order in which they stand in events.
	Services []Service
	Observer Observer
	Log      zerolog.Logger
	// NewID makes batch ids, UUIDv7.
	NewID func() string
	// MaxPayload is how long a message may be, in bytes, as the server has it now; an event stays
	// under it.
	MaxPayload func() int
	// Lease is how long a delivery stays ours unless it is extended, as the consumer stands now.
	Lease func() time.Duration
	// Now is the time by the broker's clock: jobs are dated by it.
	Now func() time.Time
	// Probe is called at named points of every batch's life: before_call, first_reply,
	// before_commit, after_commit, between_acks. Fault tests kill the process there.
	Probe func(point string)
}

// Pool is one replica's engine.
type Pool struct {
	cfg       Config
	parts     Parts
	executor  *executor
	gate      *gate
	leases    *leases
	cancelled *cancelled
	memory    memory
}

// New returns a pool that is not running yet. The error lists every fault of cfg.
func New(cfg Config, parts Parts) (*Pool, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("pool settings: %w", err)
	}
	if parts.Probe == nil {
		parts.Probe = func(string) {}
	}
	p := &Pool{
		cfg: cfg, parts: parts, gate: newGate(cfg.intake(), cfg.settle()), leases: &leases{length: parts.Lease}, cancelled: newCancelled(),
	}
	p.executor = &executor{
		services: parts.Services, settler: parts.Settler, ledger: parts.Ledger,
		noData: cfg.Results == ResultsNone, deadLetters: parts.DeadLetters, observer: parts.Observer, log: parts.Log,
		leases: p.leases, cancelled: p.cancelled, memory: &p.memory, maxPayload: parts.MaxPayload, now: parts.Now, probe: parts.Probe,
		policy: jobs.Policy{
			MaxAttempts: cfg.MaxAttempts, RetryMin: cfg.RetryMin, RetryMax: cfg.RetryMax,
			AtMostOnce: cfg.AtMostOnce, Random: rand.Int64N,
		},
	}
	for _, s := range parts.Services {
		p.executor.specs = append(p.executor.specs, jobs.Spec{Name: s.Name(), Required: s.Required()})
	}
	return p, nil
}

// Held returns how many jobs this replica holds, buffered or in flight, and their bytes in memory.
func (p *Pool) Held() jobs.Room { return p.gate.held() }

// Run works until intake is cancelled and everything taken has been finished or handed back.
// Cancelling work ends what is still unfinished; then the error is [ErrDrainDeadline]. An
// error of the source ends the pool as intake does and is returned.
func (p *Pool) Run(intake, work context.Context) error {
	intake, stop := context.WithCancelCause(intake)
	defer stop(nil)
	defer context.AfterFunc(work, func() { stop(context.Cause(work)) })()
	arrivals := make(chan []arrival)
	ended := make(chan error, 1) // one goroutine sends once
	go func() { ended <- p.intake(intake, work, arrivals) }()

	d := newDispatcher(p, work)
	cutOff := d.run(arrivals)
	if err := <-ended; err != nil {
		return err
	}
	if cutOff {
		return ErrDrainDeadline
	}
	return nil
}

// handBack gives unstarted jobs back at once. Their deliveries are accounted for first, as far as
// that is needed and possible within a moment.
func (p *Pool) handBack(unstarted []*jobs.Job) {
	ctx, cancel := context.WithTimeout(context.Background(), settleGrace)
	defer cancel()
	open, finished := p.executor.account(ctx, unstarted)
	p.executor.dropFinished(finished)
	for _, j := range open {
		p.executor.nak(j, 0)
	}
	p.parts.Observer.Event(jobs.HandedBack, len(unstarted))
	p.gate.release(unstarted)
}

// newBatch makes a batch of its members.
func (p *Pool) newBatch(members []*jobs.Job, key string, why jobs.Seal, now time.Time) *jobs.Batch {
	return &jobs.Batch{
		ID: p.parts.NewID(), Pool: p.cfg.Pool, Replica: p.cfg.Replica,
		Key: key, Seal: why, SealedAt: now, Jobs: members,
	}
}
