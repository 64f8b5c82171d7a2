package service

import (
	"context"
	"fmt"

	"rollcall/internal/jobs"
)

// Ask finds out whether the service is set up as the settings say, and returns what it said. In
// the format batch it is sent a batch without jobs: nothing comes of that, but a wrong secret, path
// or method shows. In the others, where a request needs a job, it is only connected to. A service
// that refuses the empty batch by a 4xx of its own has answered; that is no error. What a call would
// try again is tried again here, as often and within one time-out: a single 500 says little of how a
// service is set up.
func (r Ref) Ask(ctx context.Context, cfg Config, deps Deps) (said string, err error) {
	if scheme, _, err := checkURL(r.URL); err == nil && (scheme == "nats" || cfg.Format != FormatBatch) {
		if err := r.Reach(ctx, cfg); err != nil {
			return "", err
		}
		return "takes connections; it cannot be called without a job", nil
	}
	s, err := New(r.Name, r.URL, cfg, deps)
	if err != nil {
		return "", err
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	failure := s.ask(ctx)
	for n := 1; failure != nil && n < cfg.Tries && retryable(failure) && sleep(ctx, delayBefore(n, failure)) == nil; n++ {
		failure = s.ask(ctx)
	}
	switch {
	case failure == nil:
		return "accepts an empty batch", nil
	case failure.Final:
		return fmt.Sprintf("answers; to an empty batch it said: %v", failure.Err), nil
	default:
		return "", failure
	}
}

// ask sends a batch without jobs, once.
func (s *Service) ask(ctx context.Context) *jobs.Failure {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request, failure := s.transport.prepare(&jobs.Call{
		BatchID: "doctor", Pool: "doctor", Service: s.name, Key: "doctor:" + s.name, Body: []byte("[]"),
	})
	if failure == nil {
		_, failure = s.attempt(ctx, cancel, request)
	}
	return failure
}
