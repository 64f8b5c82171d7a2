package service

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"

	"rollcall/internal/jobs"
)

// Delays between the tries of one call: full jitter under a doubling ceiling. A service that
// asks for more than maxDelay by Retry-After ends the call instead, so that the jobs wait in
// the broker and not in a slot of the pool.
const (
	minDelay = 100 * time.Millisecond
	maxDelay = time.Second
)

// The breaker opens when half of at least breakerCalls tries failed within breakerWindow (or
// breakerSpan time-outs, if that is longer) and lets breakerProbes tries through after
// breakerDelay. A service that may take few calls at once is judged by fewer: breakerSpan of
// each is all that it can fail in the window when it hangs.
const (
	breakerRate   = 0.5
	breakerCalls  = 10
	breakerWindow = 30 * time.Second
	breakerSpan   = 3
	breakerDelay  = 5 * time.Second
	breakerJitter = 0.2
	breakerProbes = 3
)

// Bounds of the adaptive limiter, and how it watches: it compares the median of autoSamples
// tries or more, taken over a second or more, with a baseline of the last autoBaseline of
// these. The library's default, the 90th percentile against the last 10, swings twice as
// wide around the knee of a service (2 to 33 instead of 5 to 23, for a knee at 8).
const (
	autoMin       = 1
	autoMax       = 200
	autoStart     = 20
	autoSamples   = 50
	autoWindow    = time.Second
	autoMaxWindow = 30 * time.Second
	autoQuantile  = 0.5
	autoBaseline  = 50
)

type result = []jobs.Reply

// policies guard one service. Their order is told in the package's documentation.
type policies struct {
	name     string
	timeout  time.Duration
	retryMax time.Duration
	breaker  circuitbreaker.CircuitBreaker[result]
	fixed    int
	adaptive adaptivelimiter.AdaptiveLimiter[result]
	executor failsafe.Executor[result]
	inside   *atomic.Int64 // calls that wait for a permit, are sent, or wait for the next try
}

func newPolicies(name string, cfg Config, deps Deps) policies {
	p := policies{name: name, timeout: cfg.Timeout, retryMax: deps.RetryMax, fixed: int(cfg.Concurrency), inside: new(atomic.Int64)}
	p.breaker = newBreaker(name, cfg, deps)
	order := []failsafe.Policy[result]{newRetry(cfg, p.breaker)}
	// A try waits at most half a time-out for each of these two.
	wait := cfg.Timeout / 2
	if cfg.Rate > 0 {
		interval := max(time.Duration(float64(time.Second)/cfg.Rate), 1)
		order = append(order, ratelimiter.NewSmoothBuilderWithMaxRate[result](interval).WithMaxWaitTime(wait).Build())
	}
	if cfg.Concurrency == Auto {
		p.adaptive = adaptivelimiter.NewBuilder[result]().WithLimits(autoMin, autoMax, autoStart).
			WithRecentWindow(autoWindow, autoMaxWindow, autoSamples).WithRecentQuantile(autoQuantile).
			WithBaselineWindow(autoBaseline).WithMaxWaitTime(wait).Build()
		order = append(order, p.adaptive)
	} else {
		order = append(order, bulkhead.NewBuilder[result](uint(cfg.Concurrency)).WithMaxWaitTime(wait).Build())
	}
	p.executor = failsafe.With(append(order, p.breaker, timeout.New[result](cfg.Timeout))...)
	return p
}

func newRetry(cfg Config, breaker circuitbreaker.CircuitBreaker[result]) retrypolicy.RetryPolicy[result] {
	return retrypolicy.NewBuilder[result]().
		WithMaxAttempts(cfg.Tries).
		ReturnLastFailure().
		HandleIf(func(_ result, err error) bool { return worthAnotherTry(err) && !holdsBack(breaker) }).
		WithDelayFunc(func(exec failsafe.ExecutionAttempt[result]) time.Duration {
			return delayBefore(exec.Retries()+1, exec.LastError())
		}).Build()
}

func newBreaker(name string, cfg Config, deps Deps) circuitbreaker.CircuitBreaker[result] {
	log := deps.Log
	calls := breakerCalls
	if cfg.Concurrency != Auto {
		calls = min(calls, breakerSpan*int(cfg.Concurrency))
	}
	return circuitbreaker.NewBuilder[result]().
		WithFailureRateThreshold(breakerRate, uint(calls), max(breakerWindow, breakerSpan*cfg.Timeout)).
		WithSuccessThreshold(breakerProbes).
		WithDelay(breakerDelay).WithJitterFactor(breakerJitter).
		HandleIf(func(_ result, err error) bool { return speaksOfAnIllness(err) }).
		OnStateChanged(func(e circuitbreaker.StateChangedEvent) {
			log.Info().Str("service", name).Stringer("from", e.OldState).Stringer("to", e.NewState).Msg("service breaker changed")
		}).Build()
}

// holdsBack reports whether the breaker is open and will stay so for now.
func holdsBack(breaker circuitbreaker.CircuitBreaker[result]) bool {
	return breaker.IsOpen() && breaker.RemainingDelay() > 0
}

// refuses reports whether the breaker would refuse the n-th of the calls inside. It is asked
// before a call waits for anything, because the breaker itself stands behind the waiting, and
// because an adaptive limiter would take a refusal for a quick answer.
func (p *policies) refuses(n int64) bool {
	return !p.breaker.IsClosed() && (n > breakerProbes || holdsBack(p.breaker))
}

// worthAnotherTry decides whether a failed try is repeated within its call.
func worthAnotherTry(err error) bool {
	if errors.Is(err, timeout.ErrExceeded) {
		return true
	}
	f, ok := errors.AsType[*jobs.Failure](err)
	if !ok || f.Final || f.RetryAfter > maxDelay || misconfigured(f) {
		return false
	}
	return f.Reason != jobs.ReasonCanceled && f.Reason != jobs.ReasonPanic
}

// speaksOfAnIllness decides whether a failed try counts against the service in the breaker.
// A final answer, a throttling or a redirect comes from a living service, and a mistake in
// our own settings says nothing about it.
func speaksOfAnIllness(err error) bool {
	if errors.Is(err, timeout.ErrExceeded) {
		return true
	}
	f, ok := errors.AsType[*jobs.Failure](err)
	if !ok || f.Final || misconfigured(f) {
		return false
	}
	switch f.Reason {
	case jobs.ReasonThrottled, jobs.ReasonHTTP4xx, jobs.ReasonCanceled, jobs.ReasonPanic:
		return false
	default:
		return true
	}
}

// delayBefore returns the pause before the n-th repetition: what the service asked for, else
// full jitter.
func delayBefore(n int, err error) time.Duration {
	if f, ok := errors.AsType[*jobs.Failure](err); ok && f.RetryAfter > 0 {
		return f.RetryAfter
	}
	ceiling := min(minDelay<<min(n-1, 10), maxDelay)
	return rand.N(ceiling) + 1
}

// run performs one call under all policies.
func (p *policies) run(ctx context.Context, s *Service, call *jobs.Call) jobs.CallResult {
	n := p.inside.Add(1)
	defer p.inside.Add(-1)
	if p.refuses(n) {
		return jobs.CallResult{Failure: p.failure(ctx, circuitbreaker.ErrOpen, nil)}
	}
	var tries int
	var burnt bool
	var last *jobs.Failure
	replies, err := p.executor.WithContext(ctx).GetWithExecution(func(exec failsafe.Execution[result]) (result, error) {
		tries++
		probe := !p.breaker.IsClosed()
		var got result
		if got, last = s.attempt(exec.Context(), call); last == nil {
			if probe {
				got = freed(got)
			}
			return got, nil
		}
		burnt = burnt || !probe && burns(last)
		if misconfigured(last) {
			tries--
		}
		if ctx.Err() != nil {
			last = p.failure(ctx, ctx.Err(), nil) // given up by us: no word on the service
		}
		return nil, last
	})
	if err == nil {
		return jobs.CallResult{Replies: replies, Tries: tries}
	}
	failed := *p.failure(ctx, err, last)
	failed.Free = !burnt
	return jobs.CallResult{Failure: &failed, Tries: tries}
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
	case errors.Is(err, timeout.ErrExceeded):
		if last != nil && last.Code != 0 {
			return last // it answered with a status, and only then dawdled
		}
		return &jobs.Failure{Reason: jobs.ReasonTimeout, Err: fmt.Errorf("no complete reply from %s within %v (%s)", p.name, p.timeout, Variable(p.name, "TIMEOUT"))}
	case last != nil:
		return last // a policy refused a further try; why there had to be one says more
	case errors.Is(err, circuitbreaker.ErrOpen):
		wait, until := p.breaker.RemainingDelay(), "until it answers again"
		if wait > 0 {
			until = "for " + wait.Round(time.Millisecond).String()
		}
		return &jobs.Failure{Reason: jobs.ReasonBreakerOpen, Free: true, RetryAfter: min(wait, p.retryMax),
			Err: fmt.Errorf("%s failed too often; calls are held back %s", p.name, until)}
	case errors.Is(err, ratelimiter.ErrExceeded):
		return &jobs.Failure{Reason: jobs.ReasonOverload, Err: fmt.Errorf("%s: no call allowed within %v; see %s", p.name, p.timeout/2, Variable(p.name, "RATE"))}
	default:
		return &jobs.Failure{Reason: jobs.ReasonOverload, Err: fmt.Errorf("%s: all %d calls at once were taken for %v; see %s", p.name, p.limit(), p.timeout/2, Variable(p.name, "CONCURRENCY"))}
	}
}

// limit returns how many requests may be under way at once.
func (p *policies) limit() int {
	if p.adaptive != nil {
		return p.adaptive.Limit()
	}
	return p.fixed
}
