package service

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"

	"rollcall/internal/jobs"
)

// errTimeout ends a try whose time is over.
var errTimeout = errors.New("the time-out of the try")

// retryable decides whether a failed try is repeated within its call.
func retryable(err error) bool {
	if errors.Is(err, errTimeout) {
		return true
	}
	f, ok := errors.AsType[*jobs.Failure](err)
	if !ok || f.Final || f.RetryAfter > maxDelay || f.Misconfigured {
		return false
	}
	switch f.Reason {
	case jobs.ReasonCanceled, jobs.ReasonPanic:
		return false
	case jobs.ReasonThrottled:
		return f.RetryAfter > 0 // else the pace of the service has to come down first
	default:
		return true
	}
}

// trips decides whether a failed try counts against the service in the breaker. A final
// reply or a throttling comes from a living service, and a local shortage says nothing about the
// service. A 4xx that may be retried is of the job where there is one; of a batch it may be the service's.
func (p *policies) trips(err error) bool {
	if errors.Is(err, errTimeout) {
		return true
	}
	f, ok := errors.AsType[*jobs.Failure](err)
	if !ok || f.Final {
		return false
	}
	if f.Misconfigured {
		return true
	}
	switch f.Reason {
	case jobs.ReasonThrottled, jobs.ReasonCanceled, jobs.ReasonPanic, jobs.ReasonOverload:
		return false
	case jobs.ReasonHTTP4xx:
		return p.batch
	default:
		return true
	}
}

// delayBefore returns the wait before the n-th repetition: what the service asked for, else
// full jitter.
func delayBefore(n int, err error) time.Duration {
	if f, ok := errors.AsType[*jobs.Failure](err); ok && f.RetryAfter > 0 {
		return f.RetryAfter
	}
	ceiling := min(minDelay<<min(n-1, 10), maxDelay)
	return rand.N(ceiling) + 1
}

// run performs one call under all policies.
func (p *policies) run(ctx context.Context, s *Service, r *request) jobs.CallResult {
	n := p.inside.Add(1)
	defer p.inside.Add(-1)
	if p.refuses(n) {
		return jobs.CallResult{Failure: p.failure(ctx, circuitbreaker.ErrOpen, nil)}
	}
	if wait := p.throttle.admit(ctx, p.patience); wait > 0 {
		return jobs.CallResult{Failure: p.throttled(wait)}
	}
	c := conversation{policies: p, service: s, request: r, ctx: ctx}
	replies, err := c.converse()
	if err == nil {
		return jobs.CallResult{Replies: replies, Tries: c.tries, Repeats: max(c.tries-1, 0)}
	}
	failed := *p.failure(ctx, err, c.last)
	late := c.last == nil && errors.Is(err, errTimeout) // the reply came with the time-out
	failed.Free = !c.burnt && !late
	return jobs.CallResult{Failure: &failed, Tries: c.tries, Repeats: max(c.tries-1, 0)}
}

// conversation is one call with its tries.
type conversation struct {
	*policies
	service *Service
	request *request
	ctx     context.Context // of the call
	tries   int
	// burnt means that a try counts as an attempt of the jobs.
	burnt bool
	last  *jobs.Failure
}

// converse makes tries until one is answered or no further one is worth it.
func (c *conversation) converse() ([]jobs.Reply, error) {
	for n := 1; ; n++ {
		replies, err := c.admitted()
		if err == nil || n >= c.most || !retryable(err) || holdsBack(c.breaker) {
			return replies, err
		}
		if err := sleep(c.ctx, delayBefore(n, err)); err != nil {
			return nil, err
		}
	}
}

// admitted makes one try once the rate, a permit and the breaker allow it, and tells the breaker
// what came of it.
func (c *conversation) admitted() ([]jobs.Reply, error) {
	if c.rate != nil {
		if err := c.rate.AcquirePermitWithMaxWait(c.ctx, c.patience); err != nil {
			return nil, err
		}
	}
	release, err := c.permit(c.ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if c.ctx.Err() != nil {
		return nil, context.Cause(c.ctx) // a free permit is no reason to send what was given up
	}
	if !c.breaker.TryAcquirePermit() {
		return nil, circuitbreaker.ErrOpen
	}
	replies, err := c.inTime()
	if c.trips(err) {
		c.breaker.RecordFailure()
	} else {
		c.breaker.RecordSuccess()
	}
	return replies, err
}

// permit waits for a permit to make a try. The returned function gives it back.
func (p *policies) permit(ctx context.Context) (release func(), err error) {
	if p.adaptive == nil {
		return p.bulkhead.ReleasePermit, p.bulkhead.AcquirePermitWithMaxWait(ctx, p.patience)
	}
	permit, err := p.adaptive.AcquirePermitWithMaxWait(ctx, p.patience)
	return func() {
		if ctx.Err() != nil {
			permit.Drop() // how long it took is our doing
		} else {
			permit.Record()
		}
	}, err
}

// inTime makes one try that is cut at the time-out. A reply that comes with it is too late.
func (c *conversation) inTime() ([]jobs.Reply, error) {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	// Not by a deadline of the context, which dialling would share out over the addresses of a host.
	clock := time.AfterFunc(c.timeout, cancel)
	replies, err := c.try(ctx, cancel)
	if !clock.Stop() {
		return nil, errTimeout
	}
	return replies, err
}

// try performs one try inside all policies.
func (c *conversation) try(ctx context.Context, cancel context.CancelFunc) ([]jobs.Reply, error) {
	c.tries++
	sent := time.Now()
	probe := !c.breaker.IsClosed() && !c.life.shown(sent)
	replies, failure := c.service.attempt(ctx, cancel, c.request)
	if failure == nil {
		c.last = nil
		c.throttle.easy()
		c.life.note(sent)
		if probe {
			replies = freed(replies)
		}
		return replies, nil
	}
	if unsent(failure) {
		c.tries--
	}
	if c.ctx.Err() != nil {
		c.last = c.policies.failure(c.ctx, c.ctx.Err(), nil) // given up by us: no word on the service
		return nil, c.last
	}
	if ctx.Err() != nil && failure.Code == 0 && failure.Reason == jobs.ReasonTimeout {
		failure.Err = c.tooSlow(failure.Err)
	}
	c.burnt = c.burnt || !probe && burns(failure)
	c.last = failure
	c.service.note(failure)
	switch {
	case failure.Reason == jobs.ReasonThrottled:
		c.throttle.slow(time.Now(), sent, failure.RetryAfter)
	case failure.Misconfigured:
		c.breaker.Open()
		if failure.RetryAfter == 0 {
			failure.RetryAfter = min(c.breaker.RemainingDelay(), c.retryMax)
		}
	}
	return nil, failure
}

// freed returns replies that burn no attempt. All is well in most, and those are shared.
func freed(replies []jobs.Reply) []jobs.Reply {
	if !slices.ContainsFunc(replies, func(r jobs.Reply) bool { return r.Status == jobs.StatusRetry }) {
		return replies
	}
	replies = slices.Clone(replies)
	for i := range replies {
		replies[i].Free = true
	}
	return replies
}

// failure turns what ended a call into a failure. last is that of the latest try, nil if none
// was made.
func (p *policies) failure(ctx context.Context, err error, last *jobs.Failure) *jobs.Failure {
	if ctx.Err() != nil {
		return &jobs.Failure{Reason: jobs.ReasonCanceled, Err: fmt.Errorf("call to %s given up: %w", p.name, context.Cause(ctx))}
	}
	if f, ok := errors.AsType[*jobs.Failure](err); ok {
		return f
	}
	switch {
	case last != nil:
		// A time-out of the try, or a policy that refused a further one: why there had to be one
		// says more.
		return last
	case errors.Is(err, errTimeout):
		return &jobs.Failure{Reason: jobs.ReasonTimeout, Err: p.tooSlow(nil)}
	case errors.Is(err, circuitbreaker.ErrOpen):
		return p.heldBack()
	case errors.Is(err, ratelimiter.ErrExceeded):
		return &jobs.Failure{Reason: jobs.ReasonOverload, Free: true, Err: fmt.Errorf("%s: no call allowed within %v; see %s", p.name, p.patience, Variable(p.name, "RATE"))}
	default:
		return &jobs.Failure{Reason: jobs.ReasonOverload, Free: true, Err: fmt.Errorf("%s: all %d calls at once were taken for %v; see %s", p.name, p.limit(), p.patience, Variable(p.name, "CONCURRENCY"))}
	}
}

// tooSlow says that a try took too long; cause is what was being done, nil if unknown.
func (p *policies) tooSlow(cause error) error {
	if cause != nil && errors.As(cause, new(*unsentError)) {
		return &unsentError{fmt.Errorf("no connection to %s within %v (%s)", p.name, p.timeout, Variable(p.name, "TIMEOUT"))}
	}
	return fmt.Errorf("no complete reply from %s within %v (%s)", p.name, p.timeout, Variable(p.name, "TIMEOUT"))
}

// heldBack says that the breaker let a call not pass, and why it is open.
func (p *policies) heldBack() *jobs.Failure {
	wait, until := p.breaker.RemainingDelay(), "until it answers again"
	if wait > 0 {
		until = "for " + wait.Round(time.Millisecond).String()
	}
	f := &jobs.Failure{Reason: jobs.ReasonBreakerOpen, Free: true, RetryAfter: min(wait, p.retryMax)}
	switch last := p.last.Load(); {
	case last == nil:
		f.Err = fmt.Errorf("calls to %s are held back %s", p.name, until)
	case last.err.Misconfigured:
		f.Misconfigured = true
		f.Err = fmt.Errorf("%s is set up wrongly, calls are held back %s: %w", p.name, until, last.err)
	default:
		f.Err = fmt.Errorf("%s failed too often, calls are held back %s: %w", p.name, until, last.err)
	}
	return f
}

// throttled says that the service asked for fewer calls.
func (p *policies) throttled(wait time.Duration) *jobs.Failure {
	return &jobs.Failure{
		Reason: jobs.ReasonThrottled, Free: true, RetryAfter: min(wait, p.retryMax),
		Err: fmt.Errorf("%s asked for fewer calls (429); the next one may go in %v", p.name, wait.Round(time.Millisecond)),
	}
}
