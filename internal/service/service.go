package service

import (
	"context"
	"fmt"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
)

// Deps is what a service needs of its process.
type Deps struct {
	// Conn carries the calls of nats:// services; it may be nil where there are none. It is
	// not closed by the service.
	Conn *nats.Conn
	// Version stands in the User-Agent.
	Version string
	// RetryMax caps what a service may ask for by Retry-After; it is ROLLCALL_RETRY_MAX.
	RetryMax time.Duration
	// Log is told when the breaker changes its state, and of panics.
	Log zerolog.Logger
	// Resolver resolves host names; nil = the system's.
	Resolver *net.Resolver
}

// transport sends requests and reads their replies.
type transport interface {
	// send performs one try. When it returns, nothing reads call.Body any more.
	send(ctx context.Context, call *jobs.Call) ([]jobs.Reply, *jobs.Failure)
	// fits reports whether the call can be sent in one request.
	fits(call *jobs.Call) bool
	close()
}

// Service is one microservice with its transport and its policies. Its methods may be called
// from many goroutines.
type Service struct {
	name      string
	url       string
	cfg       Config
	transport transport
	policies  policies
	log       zerolog.Logger
	inFlight  atomic.Int64
	lastFault atomic.Pointer[fault]
}

// fault is a failure and when it happened.
type fault struct {
	at  time.Time
	err *jobs.Failure
}

// New returns the service of this name at a URL of http://, https:// or nats://<subject>. The
// error joins every fault found in the settings. [Service.Close] frees its connections.
func New(name, rawURL string, cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(name, rawURL); err != nil {
		return nil, err
	}
	target, err := parseURL(rawURL)
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", name, err)
	}
	s := &Service{name: name, url: withoutQuery(target), cfg: cfg, policies: newPolicies(name, cfg, deps), log: deps.Log}
	if target.Scheme == "nats" {
		s.transport, err = newNATS(rawURL, cfg, deps)
	} else {
		s.transport, err = newHTTP(name, target, cfg, deps)
	}
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", name, err)
	}
	return s, nil
}

// Name returns the name of the service in ROLLCALL_SERVICES.
func (s *Service) Name() string { return s.name }

// Required tells whether a job can succeed without this service.
func (s *Service) Required() bool { return s.cfg.Required }

// Batched reports whether the service reads the body of a call.
func (s *Service) Batched() bool { return true }

// Close closes idle connections. Calls under way are not disturbed.
func (s *Service) Close() { s.transport.close() }

// Call sends the call, with the tries and policies of the service, and reads the reply. It
// returns soon after ctx is done and never keeps call.Body. The replies must not be written
// to: those of calls where all is well are shared.
func (s *Service) Call(ctx context.Context, call *jobs.Call) jobs.CallResult {
	s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	start := time.Now()
	var result jobs.CallResult
	if s.transport.fits(call) {
		result = s.policies.run(ctx, s, call)
	} else {
		result = s.split(ctx, call)
	}
	result.Duration = time.Since(start)
	if f := result.Failure; f != nil && f.Reason != jobs.ReasonCanceled {
		s.lastFault.Store(&fault{at: time.Now(), err: f})
	}
	return result
}

// attempt performs one try and turns a panic into a failure: the policies hold permits that
// only a return gives back.
func (s *Service) attempt(ctx context.Context, call *jobs.Call) (replies []jobs.Reply, failure *jobs.Failure) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error().Str("service", s.name).Str("batch_id", call.BatchID).
				Interface("panic", p).Bytes("stack", debug.Stack()).Msg("call panicked")
			failure = &jobs.Failure{Reason: jobs.ReasonPanic, Err: fmt.Errorf("the call panicked: %v", p)}
		}
	}()
	return s.transport.send(ctx, call)
}
