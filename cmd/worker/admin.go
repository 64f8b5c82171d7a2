package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

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

// age writes how long ago something was, in at most two units.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(max(d, 0).Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}

// plain makes a text of unknown origin one line that cannot command the terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s)
}
