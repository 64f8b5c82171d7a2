package app

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/retry"
)

// Plan is what [Setup] did, or would do.
type Plan struct {
	// Created objects, "stream JOBS" or "consumer JOBS/default".
	Created []string
	// Moved is how many records of another pool's ledger were taken over.
	Moved int
	// Differences that remain: what is missing, in a dry run, and what is not as Rollcall
	// would make it. Existing objects are never changed.
	Differences []bus.Difference
}

// Archive creates the stream that keeps completion events for age, in at most limit bytes (0 for any
// number), unless it stands. With dryRun it only reads.
func Archive(ctx context.Context, cfg Config, log zerolog.Logger, opts Options, age time.Duration, limit jobs.Size, dryRun bool) (Plan, error) {
	return withSetup(ctx, cfg, log, opts, func(ctx context.Context, conn *bus.Conn, setup *bus.Setup) (plan Plan, err error) {
		lacking, err := setup.Archive(ctx, age, limit, dryRun)
		object := "stream " + conn.History()
		switch {
		case lacking && dryRun:
			plan.Differences = []bus.Difference{{Object: object, Missing: true}}
		case lacking:
			plan.Created = []string{object}
		}
		return plan, err
	})
}

// Setup creates the streams and the consumer of the pool where they are missing. With dryRun
// it only reads.
func Setup(ctx context.Context, cfg Config, log zerolog.Logger, opts Options, dryRun bool) (Plan, error) {
	return withSetup(ctx, cfg, log, opts, func(ctx context.Context, _ *bus.Conn, setup *bus.Setup) (plan Plan, err error) {
		if dryRun {
			if err = setup.CheckPredecessor(ctx); err == nil {
				plan.Differences, err = setup.Check(ctx)
			}
			return plan, err
		}
		plan.Created, plan.Differences, err = ensure(ctx, setup)
		return plan, err
	})
}

// ensure creates the streams and the consumer where they are missing. It asks again what has just been
// started: a cluster without a leader never answers what reaches it, and a leaf node learns only after
// it is connected that somebody answers behind it.
func ensure(ctx context.Context, setup *bus.Setup) (created []string, drift []bus.Difference, err error) {
	for begun := time.Now(); ; {
		try, cancel := context.WithTimeout(ctx, setupTry)
		var made []string
		if err = setup.CheckPredecessor(try); err == nil {
			made, drift, err = setup.Ensure(try)
		}
		cancel()
		created = append(created, made...)
		switch {
		case ctx.Err() != nil:
			return created, drift, err
		case errors.Is(err, context.DeadlineExceeded):
		case errors.Is(err, nats.ErrNoResponders) && time.Since(begun) < setupTry:
			if retry.Wait(ctx, setupPause) != nil {
				return created, drift, err
			}
		default:
			return created, drift, err
		}
	}
}

// TakeOver makes the pool the successor of pool old over the same stream, then does what [Setup]
// does. After a crash, running it again finishes it.
func TakeOver(ctx context.Context, cfg Config, log zerolog.Logger, opts Options, old string) (Plan, error) {
	return withSetup(ctx, cfg, log, opts, func(ctx context.Context, _ *bus.Conn, setup *bus.Setup) (plan Plan, err error) {
		if plan.Moved, err = setup.TakeOver(ctx, old); err != nil {
			return plan, err
		}
		plan.Created, plan.Differences, err = setup.Ensure(ctx)
		return plan, err
	})
}

// withSetup connects for as long as do takes. Whoever calls for a setup wants it, whatever
// ROLLCALL_ENSURE says to replicas.
func withSetup(ctx context.Context, cfg Config, log zerolog.Logger, opts Options, do func(context.Context, *bus.Conn, *bus.Setup) (Plan, error)) (plan Plan, err error) {
	conn, err := connect(ctx, cfg, opts, log)
	if err != nil {
		return Plan{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	heeding, stop := heed(ctx, conn)
	defer stop()
	cfg.Streams.Ensure = true
	plan, err = do(heeding, conn, bus.NewSetup(conn, cfg.Streams, cfg.Pool))
	err = bus.Refused(heeding, err)
	if closing := conn.Close(ctx); err == nil {
		err = closing
	}
	return plan, err
}

// heed returns a context that ends when the server denies what a setup needs.
func heed(ctx context.Context, conn *bus.Conn) (heeding context.Context, stop context.CancelFunc) {
	conn.Tolerate(conn.API("STREAM.INFO." + bus.StreamLater))
	return conn.HeedSubject(ctx, "")
}
