package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/operate"
	"rollcall/internal/pool"
	"rollcall/internal/service"
	"rollcall/internal/web"
)

// The errors that callers branch on.
var (
	// ErrDrainDeadline: a stop took longer than ROLLCALL_DRAIN_TIMEOUT, and work was cut off.
	ErrDrainDeadline = pool.ErrDrainDeadline
	// ErrUnreachable: no NATS server could be reached.
	ErrUnreachable = bus.ErrUnreachable
	// ErrMissing: a stream or the consumer does not exist and may not be created.
	ErrMissing = bus.ErrMissing
	// ErrRefusedSetup: the pool would lose, repeat or fake jobs on what the server has.
	ErrRefusedSetup = bus.ErrRefusedSetup
	// ErrTakeOver: the pool got another name, and its old ledger has to be taken over.
	ErrTakeOver = bus.ErrTakeOver
	// ErrConnectionClosed: the connection to NATS ended for good while the pool worked.
	ErrConnectionClosed = errors.New("the worker cannot go on without NATS")
)

// errDrainAsked is the cause of a stop that an operator asked for by `worker drain`.
var errDrainAsked = errors.New("asked to drain by an operator")

const (
	// DefaultPatience is how long a starting replica waits for the broker.
	DefaultPatience = 30 * time.Second
	// setupTimeout bounds the check and creation of streams and consumer.
	setupTimeout = 30 * time.Second
	// setupTry bounds one try of that, and all tries to which nobody listens, setupPause apart.
	setupTry, setupPause = 5 * time.Second, 100 * time.Millisecond
	// closeTimeout bounds each step of the end that waits for the broker.
	closeTimeout = 3 * time.Second
)

// Options are what the process around a replica chooses.
type Options struct {
	// Replica names this process in batches and events; empty = made of the host's name.
	Replica string
	// Version of the program, in requests to services and in the log, and its Revision.
	Version, Revision string
	// Traces exports spans as the OTEL_* variables of the process say.
	Traces bool
	// LogDropped counts the lines of the log that were lost; nil where none can be.
	LogDropped func() uint64
	// Patience is how long to wait for the broker at the start; 0 = [DefaultPatience].
	Patience time.Duration
	// NATS are further options of the connection, for example [nats.InProcessServer].
	NATS []nats.Option
	// Probe is handed to the pool; fault tests stop the process there.
	Probe func(point string)
}

// replica is one running member of a pool.
type replica struct {
	cfg    Config
	log    zerolog.Logger
	opts   Options
	health health
	seen   *observation
	// began means that the pool was started: from then on there may be work to drain.
	began bool

	// intake is cancelled at the soft stop, work at the hard deadline, life after both, when
	// nothing needs the parts in the background any more.
	intake, work, life          context.Context
	stopIntake, cutOff, endLife context.CancelCauseFunc
	background                  sync.WaitGroup
}

// Run runs one replica of the pool until ctx is cancelled, then drains it: readiness goes
// first, nothing more is taken, the jobs that it holds are finished. It returns nil after a clean drain,
// [ErrDrainDeadline] when work was cut off, [ErrUnreachable] when no broker was found, and
// [ErrConnectionClosed] when it was lost for good.
func Run(ctx context.Context, cfg Config, log zerolog.Logger, opts Options) error {
	if opts.Replica == "" {
		opts.Replica = replicaName()
	}
	if opts.Patience == 0 {
		opts.Patience = DefaultPatience
	}
	if opts.LogDropped == nil {
		opts.LogDropped = func() uint64 { return 0 }
	}
	base := context.WithoutCancel(ctx)
	r := &replica{cfg: cfg, opts: opts, log: log.With().Str("pool", cfg.Pool).Str("replica", opts.Replica).Logger()}
	r.intake, r.stopIntake = context.WithCancelCause(base)
	r.work, r.cutOff = context.WithCancelCause(base)
	r.life, r.endLife = context.WithCancelCause(base)
	err := r.run(ctx)
	r.stopIntake(nil)
	r.cutOff(nil)
	r.endLife(nil)
	r.background.Wait()
	if ctx.Err() != nil && !r.began {
		return nil // asked to stop before there was anything to drain
	}
	return err
}

func (r *replica) run(ctx context.Context) error {
	r.log.Info().Str("version", r.opts.Version).Msg("starting")
	r.warnOfLongCalls()
	var err error
	if r.seen, err = r.observe(ctx); err != nil {
		return err
	}
	defer r.seen.log.Close()
	defer r.close("the export of traces", r.seen.tracing.Shutdown)
	for _, site := range r.cfg.Web.Sites(&r.health, r.seen.metrics.Handler(), r.seen) {
		server, err := web.Listen(ctx, site)
		if err != nil {
			return err
		}
		r.inBackground(server.Run)
		r.log.Info().Str("setting", site.Setting).Str("addr", server.Addr()).Bool("dashboard", site.People).Msg("serving pages")
	}

	conn, err := connect(ctx, r.cfg, r.opts, r.log)
	if err != nil {
		return err
	}
	defer r.close("the connection", conn.Close)
	r.log.Info().Str("server", conn.NATS().ConnectedUrlRedacted()).Msg("connected")
	parts, err := r.assemble(ctx, conn)
	if err != nil {
		return err
	}
	defer parts.closeServices()
	defer r.close("the source", parts.source.Close)
	engine, err := pool.New(r.engineConfig(), parts.pool)
	if err != nil {
		return err
	}
	parts.engine = engine
	for _, run := range parts.background {
		r.inBackground(run)
	}
	context.AfterFunc(r.intake, parts.source.Drain)
	r.seen.watch(parts, conn, engine)
	withdraw, err := operate.Announce(conn, operate.Announcement{
		Pool: r.cfg.Pool, Replica: r.opts.Replica, Version: r.opts.Version, Digest: r.seen.digest,
		Status: r.seen.state, Drain: func() { r.stopIntake(errDrainAsked) }, Cancel: engine.Cancel, Log: r.log,
	})
	if err != nil {
		return err
	}
	defer r.close("the registration", func(context.Context) error { return withdraw() })
	r.health.work(conn, parts.source, parts.services)
	r.log.Info().Int("services", len(parts.services)).Msg("ready")
	return r.supervise(ctx, conn, engine)
}

// engineConfig adds to the engine's settings what comes from elsewhere.
func (r *replica) engineConfig() pool.Config {
	c := r.cfg.Engine
	c.Pool, c.Replica = r.cfg.Pool, r.opts.Replica
	c.AtMostOnce = r.cfg.Streams.Source == bus.SourceCore
	return c
}

// warnOfLongCalls says which services may take longer to answer than a stop waits for them.
func (r *replica) warnOfLongCalls() {
	var long []string
	longest := time.Duration(0)
	for i := range r.cfg.Targets {
		target := &r.cfg.Targets[i]
		if most := target.Config.Longest(); most > r.cfg.DrainTimeout {
			long = append(long, service.Variable(target.Name, "TIMEOUT")+" x "+service.Variable(target.Name, "TRIES"))
			longest = max(longest, most)
		}
	}
	if len(long) > 0 {
		r.log.Warn().Stringer("ROLLCALL_DRAIN_TIMEOUT", r.cfg.DrainTimeout).Stringer("longest_call", longest).Strs("calls", long).
			Msg("a stop may cut off calls that take all their tries: their jobs are called for again elsewhere")
	}
}

// supervise runs the engine and ends it in two steps.
func (r *replica) supervise(ctx context.Context, conn *bus.Conn, engine *pool.Pool) error {
	r.began = true
	ran := make(chan error, 1)
	go func() { ran <- engine.Run(r.intake, r.work) }()
	select {
	case err := <-ran:
		return r.endCause(conn, err)
	case <-conn.Closed():
	case <-ctx.Done():
	case <-r.intake.Done(): // a part in the background failed, or an operator asked for it
	}
	r.health.enter(draining)
	r.log.Info().Stringer("timeout", r.cfg.DrainTimeout).Int("held", engine.Held().Jobs).Msg("draining")
	r.stopIntake(context.Cause(ctx))
	deadline := time.AfterFunc(r.cfg.DrainTimeout, func() { r.cutOff(ErrDrainDeadline) })
	defer deadline.Stop()
	select {
	case err := <-ran:
		return r.endCause(conn, err)
	case <-conn.Closed():
		// Nothing can be settled any more; the broker gives the jobs to other replicas.
		r.cutOff(ErrConnectionClosed)
	}
	return r.endCause(conn, <-ran)
}

// endCause returns why the replica ended: the first cause outranks what followed from it.
func (r *replica) endCause(conn *bus.Conn, ran error) error {
	r.health.enter(ended)
	if err := conn.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrConnectionClosed, err)
	}
	var failed *partError
	if errors.As(context.Cause(r.intake), &failed) {
		return failed
	}
	return ran
}

// partError is the failure of a part in the background. It ends the replica.
type partError struct{ err error }

// Error implements error.
func (e *partError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *partError) Unwrap() error { return e.err }

// inBackground runs a part beside the pool for the whole life of the replica. Its failure
// ends the replica in good order.
func (r *replica) inBackground(run func(context.Context) error) {
	r.background.Go(func() {
		if err := run(r.life); err != nil && r.life.Err() == nil {
			r.log.Error().Err(err).Msg("a part of the worker failed")
			r.stopIntake(&partError{err: err})
		}
	})
}

// close ends a part within a bounded time, whatever became of the other contexts.
func (r *replica) close(what string, end func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.life), closeTimeout)
	defer cancel()
	if err := end(ctx); err != nil {
		r.log.Warn().Err(err).Msg("could not close " + what + " in good order")
	}
}

// replicaName is the host's name, for people, and something unique, as hosts are cloned.
func replicaName() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "replica"
	}
	host = regexp.MustCompile(`[^A-Za-z0-9_-]+`).ReplaceAllString(host, "-")
	id := nuid.Next()
	return host[:min(len(host), 48)] + "-" + id[len(id)-6:]
}
