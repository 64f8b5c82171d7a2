package service_test

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

// hangs is a try that nobody answers.
func hangs(ctx context.Context, _ *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
	<-ctx.Done()
	return nil, &jobs.Failure{Reason: jobs.ReasonTimeout, Err: ctx.Err()}
}

// TestAHangingServiceOpensTheBreakerThoughCallsFindNoPermit has as many callers as a replica
// has slots, most of whom find no permit: a call that was never sent says nothing about the
// service, neither good nor bad.
func TestAHangingServiceOpensTheBreakerThoughCallsFindNoPermit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Concurrency, cfg.Tries, cfg.Timeout = 2, 1, 2*time.Second
		s := service.NewFake(cfg, deps(), hangs)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		var heldBack, overload atomic.Int64
		for range 8 {
			wg.Go(func() {
				for ctx.Err() == nil {
					switch s.Call(ctx, call(1)).Failure.Reason {
					case jobs.ReasonBreakerOpen:
						heldBack.Add(1)
						time.Sleep(time.Second)
					case jobs.ReasonOverload:
						overload.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if heldBack.Load() == 0 || overload.Load() == 0 {
			t.Errorf("%d calls held back by the breaker, %d found no permit; want some of both", heldBack.Load(), overload.Load())
		}
	})
}

// TestAHangingServiceThatMayTakeFewCallsOpensTheBreaker: with one call at a time, ten time-outs
// take longer than the breaker remembers.
func TestAHangingServiceThatMayTakeFewCallsOpensTheBreaker(t *testing.T) {
	t.Parallel()
	for _, concurrency := range []service.Concurrency{1, 2, 3, 4} {
		t.Run(concurrency.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cfg := config()
				cfg.Concurrency = concurrency
				s := service.NewFake(cfg, deps(), hangs)
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
				defer cancel()
				var wg sync.WaitGroup
				var opened atomic.Bool
				for range 8 {
					wg.Go(func() {
						for ctx.Err() == nil && !opened.Load() {
							s.Call(ctx, call(1))
							opened.Store(opened.Load() || s.State().Breaker == "open")
						}
					})
				}
				wg.Wait()
				if !opened.Load() {
					t.Error("the breaker was never open")
				}
			})
		})
	}
}

// TestAProbeThatFindsNoPermitDoesNotCloseTheBreaker has a service whose only permit is taken
// when the breaker starts to probe, by a call that hangs.
func TestAProbeThatFindsNoPermitDoesNotCloseTheBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var n atomic.Int32
		cfg, d := config(), deps()
		cfg.Concurrency, cfg.Tries, cfg.Timeout = 1, 1, 20*time.Second
		d.Log = zerolog.New(&log)
		s := service.NewFake(cfg, d, func(ctx context.Context, c *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
			if n.Add(1) > 10 {
				return hangs(ctx, c)
			}
			time.Sleep(time.Millisecond)
			return nil, unavailable()
		})
		var wg sync.WaitGroup
		for range 11 {
			wg.Go(func() { s.Call(t.Context(), call(1)) })
		}
		time.Sleep(7 * time.Second)
		for range 10 {
			wg.Go(func() { s.Call(t.Context(), call(1)) })
		}
		wg.Wait()
		if strings.Contains(log.String(), `"to":"closed"`) {
			t.Errorf("the breaker closed although no call ever succeeded:\n%s", log.String())
		}
	})
}

// TestAnOpenBreakerAnswersAtOnce: nobody waits for a permit or the rate only to be refused.
func TestAnOpenBreakerAnswersAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Concurrency, cfg.Tries, cfg.Rate = 1, 3, 1
		s := service.NewFake(cfg, deps(), func(context.Context, *jobs.Call) ([]jobs.Reply, *jobs.Failure) { return nil, unavailable() })
		for s.State().Breaker != "open" {
			s.Call(t.Context(), call(1))
		}
		for range 50 {
			r := s.Call(t.Context(), call(1))
			if r.Failure.Reason != jobs.ReasonBreakerOpen || r.Tries != 0 || r.Duration != 0 {
				t.Fatalf("got %+v, want breaker_open at once", r)
			}
		}
		time.Sleep(7 * time.Second)
		want{reason: jobs.ReasonHTTP5xx, tries: 1, code: 503}.check(t, s.Call(t.Context(), call(1))) // a probe
	})
}

func TestACallBesideTheProbesIsHeldBackInWords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ill atomic.Bool
		ill.Store(true)
		cfg := config()
		cfg.Tries = 1
		s := service.NewFake(cfg, deps(), func(ctx context.Context, c *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
			if ill.Load() {
				return nil, unavailable()
			}
			return hangs(ctx, c)
		})
		for s.State().Breaker != "open" {
			s.Call(t.Context(), call(1))
		}
		ill.Store(false)
		time.Sleep(7 * time.Second)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { s.Call(t.Context(), call(1)) })
		}
		synctest.Wait()
		r := s.Call(t.Context(), call(1))
		want{reason: jobs.ReasonBreakerOpen}.check(t, r)
		if text := r.Failure.Error(); r.Duration != 0 || !strings.Contains(text, "until it answers again") {
			t.Errorf("after %v: %s", r.Duration, text)
		}
		wg.Wait()
	})
}

// TestCallsCancelledByTheWorkerDoNotTripTheBreaker: a lost lease says nothing about a service
// that was merely taking its time.
func TestCallsCancelledByTheWorkerDoNotTripTheBreaker(t *testing.T) {
	t.Parallel()
	reached := make(chan struct{}, 1)
	s := newService(t, raw(t, func(c *net.TCPConn) {
		reached <- struct{}{}
		hang(c)
	}).url, config(), service.Deps{})
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-reached
			cancel()
		}()
		if r := s.Call(ctx, call(1)); r.Failure == nil || r.Failure.Reason != jobs.ReasonCanceled || r.Tries != 1 {
			t.Fatalf("got %+v, want a call that was sent and given up", r)
		}
	}
	if got := s.State().Breaker; got != "closed" {
		t.Errorf("breaker %s after 20 calls that the worker gave up, want closed", got)
	}
}
