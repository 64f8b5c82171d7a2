package service

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// ErrNotTried is returned by [Ref.Reach] for a service on NATS: whether somebody answers
// there can only be learnt by a call.
var ErrNotTried = errors.New("a service on NATS is only reached by calling it")

// Reach connects to the service as a call would, with its certificates and time-out, and
// hangs up without a word.
func (r Ref) Reach(ctx context.Context, cfg Config) error {
	scheme, _, err := checkURL(r.URL)
	if err != nil {
		return fmt.Errorf("reach %s: %w", r.Name, err)
	}
	if scheme == "nats" {
		return fmt.Errorf("reach %s: %w", r.Name, ErrNotTried)
	}
	goal, err := parseTarget(r.URL)
	if err != nil {
		return fmt.Errorf("reach %s: %w", r.Name, err)
	}
	target := goal.base
	rt, err := newRoundTripper(r.Name, scheme == "https", &cfg, Deps{})
	if err != nil {
		return fmt.Errorf("reach %s: %w", r.Name, err)
	}
	dial, port := rt.DialContext, "80"
	if scheme == "https" {
		dial, port = rt.DialTLSContext, "443"
	}
	if p := target.Port(); p != "" {
		port = p
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	conn, err := dial(ctx, "tcp", net.JoinHostPort(target.Hostname(), port))
	if err != nil {
		return fmt.Errorf("reach %s: %w", r.Name, err)
	}
	return conn.Close()
}
