package service

import (
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
)

// queueTimeouts is how many time-outs a request for one job waits for the rate: those of a batch
// all wait for what one batch has to itself.
const queueTimeouts = 10

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

	// The jobs of a batch whose calls fail use their attempts up in 2^attempts - 1 calls: they
	// come back in halves. Where attempts are few, the breaker waits for as many calls as so many
	// batches need. Else it opens while they are at it, and holds for free what the settings
	// want ended.
	fewAttempts = 5
	fewBatches  = 2
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

// policies guard one service. The package's documentation gives their order.
type policies struct {
	name     string
	timeout  time.Duration
	retryMax time.Duration
	// patience is how long a try waits for the rate, and again for a permit.
	patience time.Duration
	throttle *throttle
	// last is the latest failure that came of a try.
	last    *atomic.Pointer[fault]
	life    *life
	breaker circuitbreaker.CircuitBreaker[result]
	// most is how many tries a call has at most.
	most int
	// batch means that a call has many jobs.
	batch bool
	// rate is nil where there is no limit. Of bulkhead and adaptive one is nil.
	rate     ratelimiter.RateLimiter[result]
	bulkhead bulkhead.Bulkhead[result]
	adaptive adaptivelimiter.AdaptiveLimiter[result]
	fixed    int
	inside   *atomic.Int64 // calls that wait for a permit, are sent, or wait for the next try
}

func newPolicies(name string, cfg Config, deps Deps) policies {
	p := policies{
		name: name, timeout: cfg.Timeout, retryMax: deps.RetryMax, patience: cfg.Timeout / 2, throttle: new(throttle),
		last: new(atomic.Pointer[fault]), life: new(life), most: cfg.Tries, fixed: int(cfg.Concurrency), inside: new(atomic.Int64), batch: cfg.Format == FormatBatch,
	}
	if cfg.Format != FormatBatch {
		p.patience = queueTimeouts * cfg.Timeout
	}
	p.breaker = newBreaker(cfg, deps.MaxAttempts, func(e circuitbreaker.StateChangedEvent) {
		if e.OldState == circuitbreaker.ClosedState {
			p.life.opened.Store(time.Now().UnixNano())
		}
		logBreaker(deps.Log, name, e, p.last.Load())
	})
	if cfg.Rate > 0 {
		p.rate = ratelimiter.NewSmoothWithMaxRate[result](max(time.Duration(float64(time.Second)/cfg.Rate), 1))
	}
	if cfg.Concurrency == Auto {
		p.adaptive = adaptivelimiter.NewBuilder[result]().WithLimits(autoMin, autoMax, autoStart).
			WithRecentWindow(autoWindow, autoMaxWindow, autoSamples).WithRecentQuantile(autoQuantile).
			WithBaselineWindow(autoBaseline).Build()
	} else {
		p.bulkhead = bulkhead.New[result](uint(cfg.Concurrency))
	}
	return p
}

func newBreaker(cfg Config, maxAttempts int, changed func(circuitbreaker.StateChangedEvent)) circuitbreaker.CircuitBreaker[result] {
	calls := breakerCalls
	if maxAttempts > 0 && maxAttempts <= fewAttempts {
		calls = max(calls, fewBatches<<maxAttempts*cfg.Tries)
	}
	if cfg.Concurrency != Auto {
		calls = min(calls, breakerSpan*int(cfg.Concurrency))
	}
	return circuitbreaker.NewBuilder[result]().
		WithFailureRateThreshold(breakerRate, uint(calls), max(breakerWindow, breakerSpan*cfg.Timeout)).
		WithSuccessThreshold(breakerProbes).
		WithDelay(breakerDelay).WithJitterFactor(breakerJitter).
		OnStateChanged(changed).Build()
}

// life is what says that a service is alive although its breaker is not closed: it has answered
// other calls since the breaker opened. A call that fails then is the job's doing. Without it a job that
// makes every call fail keeps the breaker of a quiet pool open, and costs none of its attempts.
// Times are Unix nanoseconds.
type life struct{ opened, answered atomic.Int64 }

// note says that a call was answered that was sent then.
func (l *life) note(sent time.Time) { l.answered.Store(sent.UnixNano()) }

// shown reports whether the service has lately answered a call that began after its breaker
// opened.
func (l *life) shown(now time.Time) bool {
	answered := l.answered.Load()
	return answered > l.opened.Load() && now.UnixNano()-answered < int64(breakerWindow)
}

// logBreaker writes one warning for a service that gets into trouble; the probes after that are for
// who looks closer. Whenever calls are held back it says with which failure the last one ended.
func logBreaker(log zerolog.Logger, name string, e circuitbreaker.StateChangedEvent, last *fault) {
	event := log.Info()
	if e.OldState == circuitbreaker.ClosedState {
		event = log.Warn()
	}
	if e.NewState == circuitbreaker.OpenState && last != nil {
		event = event.Str("error", last.err.Error()).Bool("misconfigured", last.err.Misconfigured)
	}
	event.Str("service", name).Stringer("from", e.OldState).Stringer("to", e.NewState).Msg("service breaker changed")
}

// holdsBack reports whether the breaker is open and will stay so for now.
func holdsBack(breaker circuitbreaker.CircuitBreaker[result]) bool {
	return breaker.IsOpen() && breaker.RemainingDelay() > 0
}

// refuses reports whether the breaker would refuse the n-th of the calls inside. It is asked
// before a call waits for anything, because the breaker itself stands behind the waiting, and
// because an adaptive limiter would take a refusal for a quick reply.
func (p *policies) refuses(n int64) bool {
	return !p.breaker.IsClosed() && (n > breakerProbes || holdsBack(p.breaker))
}

// limit returns how many requests may be under way at once.
func (p *policies) limit() int {
	if p.adaptive != nil {
		return p.adaptive.Limit()
	}
	return p.fixed
}
