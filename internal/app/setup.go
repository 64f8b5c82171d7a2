package app

import (
	"context"

	"github.com/rs/zerolog"

	"rollcall/internal/bus"
)

// Plan is what [Setup] did, or would do.
type Plan struct {
	// Created objects, "stream JOBS" or "consumer JOBS/default".
	Created []string
	// Differences that remain: what is missing, in a dry run, and what is not as Rollcall
	// would make it. Existing objects are never changed.
	Differences []bus.Difference
}

// Setup creates the streams and the consumer of the pool where they are missing. With dryRun
// it only reads.
func Setup(ctx context.Context, cfg Config, log zerolog.Logger, opts Options, dryRun bool) (plan Plan, err error) {
	conn, err := connect(ctx, cfg, opts, log)
	if err != nil {
		return Plan{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	setup := bus.NewSetup(conn, cfg.Streams, cfg.Pool)
	if dryRun {
		plan.Differences, err = setup.Check(ctx)
	} else {
		plan.Created, plan.Differences, err = setup.Ensure(ctx)
	}
	if closing := conn.Close(ctx); err == nil {
		err = closing
	}
	return plan, err
}
