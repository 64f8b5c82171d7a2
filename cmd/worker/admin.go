package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rollcall/internal/bus"
	"rollcall/internal/operate"
)

// errNoStream is returned by commands that need one.
var errNoStream = errors.New("ROLLCALL_SOURCE=core has no stream: nothing waits, and nothing is kept")

// administer connects and calls work with the pool's administration. withStream refuses core
// mode.
func (c *cli) administer(ctx context.Context, purpose string, withStream bool, work func(*client, *operate.Admin) error) error {
	cl, err := c.connect(ctx, purpose)
	if err != nil {
		return err
	}
	defer cl.hangUp()
	if withStream && cl.cfg.Streams.Source == bus.SourceCore {
		return errNoStream
	}
	return work(cl, cl.admin())
}

// parsePoint reads a point in time: RFC 3339, or a distance from now in direction, 1 or -1.
func parsePoint(flag, text string, now time.Time, direction time.Duration) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return time.Time{}, fmt.Errorf("--%s %q: want a time such as 2026-01-31T12:00:00Z, or a duration such as 10m", flag, text)
	}
	return now.Add(direction * d), nil
}
