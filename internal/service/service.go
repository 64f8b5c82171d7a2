package service

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"runtime/debug"
	"strings"
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
	// Heed returns a context that ends as soon as the server denies Conn a message to subject: to who waits
	// for a reply that looks like silence. nil = nobody listens for it.
	Heed func(ctx context.Context, subject string) (heeding context.Context, stop context.CancelFunc)
	// Version stands in the User-Agent.
	Version string
	// RetryMax caps what a service may ask for by Retry-After; it is ROLLCALL_RETRY_MAX.
	RetryMax time.Duration
	// MaxAttempts is ROLLCALL_MAX_ATTEMPTS; 0 = many.
	MaxAttempts int
	// Log gets changes of the breaker's state, and panics.
	Log zerolog.Logger
	// ConnAge is how long a connection is used before the name is looked up again; 0 = a minute.
	ConnAge time.Duration
	// Resolver resolves host names; nil = the system's.
	Resolver *net.Resolver
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
	line      line
	inFlight  atomic.Int64
	// warned is when a shortage was last logged, in Unix seconds.
	warned atomic.Int64
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
	s := &Service{name: name, url: withoutQuery(rawURL), cfg: cfg, policies: newPolicies(name, cfg, deps), log: deps.Log}
	var err error
	if strings.HasPrefix(rawURL, natsScheme) {
		s.transport, err = newNATS(name, rawURL, &s.cfg, deps)
	} else {
		s.transport, err = newHTTP(name, rawURL, &s.cfg, deps)
	}
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", name, err)
	}
	return s, nil
}

// Name returns the name of the service in ROLLCALL_SERVICES.
func (s *Service) Name() string { return s.name }

// Required reports whether a job can succeed without this service.
func (s *Service) Required() bool { return s.cfg.Required }

// Batched reports whether the service reads the body of a call. In the formats event and plain
// it makes requests of its own, one for each job.
func (s *Service) Batched() bool { return s.cfg.Format == FormatBatch }

// Takes reports whether the service takes jobs of a subject (_SUBJECTS).
func (s *Service) Takes(subject string) bool {
	if len(s.cfg.Subjects) == 0 {
		return true
	}
	for _, pattern := range s.cfg.Subjects {
		if jobs.SubjectCovers(pattern, subject) {
			return true
		}
	}
	return false
}

// Close closes idle connections. Calls under way are not disturbed.
func (s *Service) Close() { s.transport.close() }

// Call sends the call, with the tries and policies of the service, and reads the reply. It
// returns soon after ctx is done and never keeps call.Body. The replies must not be written
// to: those of calls where all is well are shared.
func (s *Service) Call(ctx context.Context, call *jobs.Call) jobs.CallResult {
	s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	growStack()
	start := time.Now()
	var result jobs.CallResult
	switch {
	case !s.Batched():
		result = s.each(ctx, call)
	case s.transport.fits(call):
		result = s.one(ctx, call)
	default:
		result = s.split(ctx, call)
	}
	result.Duration = time.Since(start)
	return result
}

// growStack makes the goroutine's stack as large as a call will need it. Left to itself it grows at
// the bottom of the call, where twenty frames have to be moved: four per cent of a worker's time.
//
//go:noinline
func growStack() {
	var room [4 << 10]byte
	runtime.KeepAlive(&room)
}

// note keeps a failure that came of a request, and says at most once a minute that this process
// is short of something.
func (s *Service) note(f *jobs.Failure) {
	now := time.Now()
	s.policies.last.Store(&fault{at: now, err: f})
	if f.Reason != jobs.ReasonOverload {
		return
	}
	if last := s.warned.Load(); now.Unix()-last >= 60 && s.warned.CompareAndSwap(last, now.Unix()) {
		s.log.Warn().Str("service", s.name).Err(f).Msg("a request could not be sent for want of something here; the service is not to blame")
	}
}

// attempt performs one try and turns a panic into a failure: the policies hold permits that
// only a return gives back.
func (s *Service) attempt(ctx context.Context, cancel context.CancelFunc, r *request) (replies []jobs.Reply, failure *jobs.Failure) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error().Str("service", s.name).Str("batch_id", r.call.BatchID).
				Interface("panic", p).Bytes("stack", debug.Stack()).Msg("call panicked")
			failure = &jobs.Failure{Reason: jobs.ReasonPanic, Err: fmt.Errorf("the call panicked: %v", p)}
		}
	}()
	return s.transport.send(ctx, cancel, r)
}
