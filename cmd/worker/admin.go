package main

import (
	"context"
	"errors"

	"rollcall/internal/bus"
	"rollcall/internal/operate"
)

// errNoStream is returned by commands that need one.
var errNoStream = errors.New("ROLLCALL_SOURCE=core has no stream: nothing waits, and nothing is kept")

// administer connects and calls work with the pool's administration. withStream refuses core
// mode. A denied request ends it, with the name of the missing right.
func (c *cli) administer(ctx context.Context, purpose string, withStream bool, work func(context.Context, *client, *operate.Admin) error) error {
	cl, err := c.connect(ctx, purpose)
	if err != nil {
		return err
	}
	defer cl.hangUp()
	if withStream && cl.cfg.Streams.Source == bus.SourceCore {
		return errNoStream
	}
	heeding, stop := cl.HeedSubject(ctx, "")
	defer stop()
	return bus.Refused(heeding, work(heeding, cl, cl.admin()))
}
