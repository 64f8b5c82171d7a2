package service_test

import (
	"bytes"
	"context"
	"errors"
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

// deps caps pauses at a minute.
func deps() service.Deps { return service.Deps{RetryMax: time.Minute} }

// answers makes a transport that answers every job ok, after a pause.
func answers(after time.Duration) service.Send {
	return func(_ context.Context, c *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
		time.Sleep(after)
		return make([]jobs.Reply, len(c.Jobs)), nil
	}
}

func unavailable() *jobs.Failure {
	return &jobs.Failure{Reason: jobs.ReasonHTTP5xx, Code: 503, Err: errors.New("answered 503")}
}

func TestBreakerOpensProbesAndCloses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var ill atomic.Bool
		ill.Store(true)
		cfg, d := config(), deps()
		cfg.Tries = 1
		d.Log = zerolog.New(&log)
		s := service.NewFake(cfg, d, func(_ context.Context, c *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
			if ill.Load() {
				return nil, unavailable()
			}
			return make([]jobs.Reply, len(c.Jobs)), nil
		})
		for range 10 {
			want{reason: jobs.ReasonHTTP5xx, tries: 1, code: 503}.check(t, s.Call(t.Context(), call(1)))
		}
		open := s.Call(t.Context(), call(1))
		if open.Failure.Reason != jobs.ReasonBreakerOpen || open.Tries != 0 || open.Failure.Final || open.Failure.RetryAfter < 3*time.Second {
			t.Fatalf("after 10 failures: %+v, want a call held back, nothing sent", open)
		}
		if st := s.State(); st.Breaker != "open" || st.RetryIn <= 0 || st.LastError == "" || st.LastErrorAt.IsZero() {
			t.Errorf("state %+v", st)
		}
		time.Sleep(10 * time.Second)
		want{reason: jobs.ReasonHTTP5xx, tries: 1, code: 503}.check(t, s.Call(t.Context(), call(1))) // a probe
		if got := s.State().Breaker; got != "open" {
			t.Errorf("after a failed probe: %s, want open", got)
		}
		ill.Store(false)
		time.Sleep(10 * time.Second)
		for range 3 {
			if r := s.Call(t.Context(), call(1)); r.Failure != nil {
				t.Fatal(r.Failure)
			}
		}
		if got := s.State().Breaker; got != "closed" {
			t.Errorf("after three good probes: %s, want closed", got)
		}
		if n := strings.Count(log.String(), "service breaker changed"); n != 5 {
			t.Errorf("%d changes logged, want 5:\n%s", n, log.String())
		}
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, `"to":"open"`) != strings.Contains(line, `"error":"`) {
				t.Errorf("only that calls are held back has a cause, and always: %s", line)
			}
		}
	})
}

// TestA4xxThatMayBeRetriedTripsTheBreakerOfBatches, whose calls come back in halves: a service that answers all of them so
// is in trouble. Where a request is one job's, so is its answer.
func TestA4xxThatMayBeRetriedTripsTheBreakerOfBatches(t *testing.T) {
	t.Parallel()
	for format, want := range map[service.Format]string{service.FormatBatch: "open", service.FormatPlain: "closed"} {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cfg := config()
				cfg.Format = format
				s := service.NewFake(cfg, deps(), func(context.Context, *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
					return nil, &jobs.Failure{Reason: jobs.ReasonHTTP4xx, Code: 408, Err: errors.New("answered 408")}
				})
				for range 20 {
					s.Call(t.Context(), call(1))
				}
				if got := string(s.State().Breaker); got != want {
					t.Errorf("breaker %s, want %s", got, want)
				}
			})
		})
	}
}

// TestWhatTripsTheBreaker separates a service in trouble from one that is well and says no.
func TestWhatTripsTheBreaker(t *testing.T) {
	t.Parallel()
	for reason, test := range map[string]struct {
		final bool
		state string
	}{
		jobs.ReasonTimeout: {false, "open"}, jobs.ReasonRefused: {false, "open"}, jobs.ReasonReset: {false, "open"},
		jobs.ReasonDNS: {false, "open"}, jobs.ReasonHTTP5xx: {false, "open"}, jobs.ReasonBadResponse: {false, "open"},
		jobs.ReasonTooLarge: {false, "open"}, jobs.ReasonThrottled: {false, "closed"}, jobs.ReasonHTTP4xx: {true, "closed"},
		jobs.ReasonOverload: {false, "closed"},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := service.NewFake(config(), deps(), func(context.Context, *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
					return nil, &jobs.Failure{Reason: reason, Final: test.final, Err: errors.New("said so")}
				})
				for range 20 {
					s.Call(t.Context(), call(1))
				}
				if got := s.State().Breaker; string(got) != test.state {
					t.Errorf("breaker %s, want %s", got, test.state)
				}
			})
		})
	}
}

func TestABreakerThatOpensWithinACallLeavesTheFailureStanding(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Tries = 10
		s := service.NewFake(cfg, deps(), func(context.Context, *jobs.Call) ([]jobs.Reply, *jobs.Failure) { return nil, unavailable() })
		want{reason: jobs.ReasonHTTP5xx, tries: 10, code: 503}.check(t, s.Call(t.Context(), call(1)))
		s = service.NewFake(cfg, deps(), func(context.Context, *jobs.Call) ([]jobs.Reply, *jobs.Failure) { return nil, unavailable() })
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if r := s.Call(t.Context(), call(1)); r.Failure.Reason != jobs.ReasonHTTP5xx || r.Tries < 1 || r.Tries == 10 {
					t.Errorf("got %+v, want the 503 of a try before the breaker opened", r)
				}
			})
		}
		wg.Wait()
	})
}

func TestTriesStayInTheirBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		s := service.NewFake(cfg, deps(), func(ctx context.Context, _ *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
			<-ctx.Done()
			return nil, &jobs.Failure{Reason: jobs.ReasonTimeout, Err: ctx.Err()}
		})
		start := time.Now()
		want{reason: jobs.ReasonTimeout, tries: 3}.check(t, s.Call(t.Context(), call(1)))
		took := time.Since(start)
		if least, most := 3*cfg.Timeout, 3*cfg.Timeout+2*time.Second; took < least || took > most {
			t.Errorf("took %v, want %v to %v", took, least, most)
		}
	})
}

func TestAReplyThatComesAfterTheTimeOutIsTooLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Tries = 1
		s := service.NewFake(cfg, deps(), answers(cfg.Timeout+time.Millisecond))
		want{reason: jobs.ReasonTimeout, tries: 1}.check(t, s.Call(t.Context(), call(1)))
		s = service.NewFake(cfg, deps(), answers(cfg.Timeout-time.Millisecond))
		if r := s.Call(t.Context(), call(1)); r.Failure != nil {
			t.Errorf("a reply a moment before the time-out: %v", r.Failure)
		}
	})
}

// TestNineteenWaitingForAPermitIsBounded: a hanging service fills its bulkhead,
// and further calls to it neither wait for ever nor count as attempts.
func TestNineteenWaitingForAPermitIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Concurrency, cfg.Tries = 2, 1
		var most, now atomic.Int32
		s := service.NewFake(cfg, deps(), func(ctx context.Context, _ *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			<-ctx.Done()
			return nil, &jobs.Failure{Reason: jobs.ReasonTimeout, Err: ctx.Err()}
		})
		var wg sync.WaitGroup
		reasons := make([]jobs.CallResult, 5)
		for i := range reasons {
			wg.Go(func() { reasons[i] = s.Call(t.Context(), call(1)) })
		}
		synctest.Wait()
		if st := s.State(); st.InFlight != 5 || st.Limit != 2 {
			t.Errorf("state %+v, want 5 in flight, limit 2", st)
		}
		wg.Wait()
		overload, timeouts := 0, 0
		for _, r := range reasons {
			switch {
			case r.Failure.Reason == jobs.ReasonOverload && r.Tries == 0 && r.Duration == cfg.Timeout/2:
				overload++
			case r.Failure.Reason == jobs.ReasonTimeout && r.Tries == 1 && r.Duration == cfg.Timeout:
				timeouts++
			}
		}
		if overload != 3 || timeouts != 2 || most.Load() != 2 {
			t.Errorf("%d overloads, %d time-outs, %d at once; want 3, 2, 2", overload, timeouts, most.Load())
		}
	})
}

// TestNineteenWaitingForAPermitIsBounded: a hanging service fills its bulkhead,
// and further calls to it neither wait for ever nor count as attempts.
func TestNineteenAHangingServiceDelaysNoOther(t *testing.T) {
	t.Parallel()
	hanging := newService(t, raw(t, hang).url, config(), service.Deps{})
	healthy := newService(t, serve(t, fine), config(), service.Deps{})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() { hanging.Call(ctx, call(1)) })
	}
	for range 50 {
		if r := healthy.Call(t.Context(), call(1)); r.Failure != nil {
			t.Fatal(r.Failure)
		}
	}
	cancel()
	wg.Wait()
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Rate = 10
		s := service.NewFake(cfg, deps(), answers(0))
		start := time.Now()
		for range 21 {
			if r := s.Call(t.Context(), call(1)); r.Failure != nil {
				t.Fatal(r.Failure)
			}
		}
		if took := time.Since(start); took < 1900*time.Millisecond || took > 2100*time.Millisecond {
			t.Errorf("21 calls at 10 a second took %v", took)
		}
		cfg.Rate = 0.01
		s = service.NewFake(cfg, deps(), answers(0))
		s.Call(t.Context(), call(1))
		want{reason: jobs.ReasonOverload}.check(t, s.Call(t.Context(), call(1)))
	})
}

func TestCancelEndsACallAtOnce(t *testing.T) {
	t.Parallel()
	cause := errors.New("drain deadline")
	for name, send := range map[string]service.Send{
		"in a try": func(ctx context.Context, _ *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
			<-ctx.Done()
			return nil, &jobs.Failure{Reason: jobs.ReasonTimeout, Err: ctx.Err()}
		},
		"between tries": func(context.Context, *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
			return nil, &jobs.Failure{Reason: jobs.ReasonThrottled, RetryAfter: time.Second, Err: errors.New("slower")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := service.NewFake(config(), deps(), send)
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Millisecond, func() { cancel(cause) })
				r := s.Call(ctx, call(1))
				want{reason: jobs.ReasonCanceled, tries: 1}.check(t, r)
				if r.Duration != time.Millisecond || !errors.Is(r.Failure, cause) {
					t.Errorf("took %v, error %v", r.Duration, r.Failure)
				}
			})
		})
	}
}

func TestCancelledBeforeTheCall(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := newService(t, raw(t, hang).url, config(), service.Deps{}).Call(ctx, call(1))
	if r.Failure == nil || r.Failure.Reason != jobs.ReasonCanceled {
		t.Errorf("got %+v", r)
	}
}

// TestAPanicInACallIsItsFailure: it is recovered, and the permits are free
// for the next calls.
func TestAPanicInACallIsItsFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		cfg, d := config(), deps()
		cfg.Concurrency, d.Log = 1, zerolog.New(&log)
		s := service.NewFake(cfg, d, func(context.Context, *jobs.Call) ([]jobs.Reply, *jobs.Failure) { panic("index out of range") })
		for range 30 {
			r := s.Call(t.Context(), call(1))
			want{reason: jobs.ReasonPanic, tries: 1}.check(t, r)
			if text := r.Failure.Error(); !strings.Contains(text, "index out of range") || strings.Contains(text, "\n") {
				t.Fatalf("the error has no value, or a stack, which is for the log alone: %s", text)
			}
		}
		if n := strings.Count(log.String(), "call panicked"); n != 30 || !strings.Contains(log.String(), "policy_test.go") {
			t.Errorf("%d panics logged, want 30, each with its stack:\n%.1000s", n, log.String())
		}
		if s.State().InFlight != 0 {
			t.Error("calls still in flight")
		}
	})
}

// TestAutoConcurrencyFindsTheKnee runs against a service that works on 8 calls at once and
// lets the others queue, each delayed by the crowd. It is offered 64: the limit has to stay
// around the knee, far below what is offered, and the throughput must not suffer for it.
func TestAutoConcurrencyFindsTheKnee(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const capacity, callers = 8, 64
		cfg := config()
		cfg.Concurrency = service.Auto
		seats := make(chan struct{}, capacity)
		var served atomic.Int64
		s := service.NewFake(cfg, deps(), func(_ context.Context, c *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
			seats <- struct{}{}
			defer func() { <-seats }()
			time.Sleep(20 * time.Millisecond)
			served.Add(1)
			return make([]jobs.Reply, len(c.Jobs)), nil
		})
		if got := s.State().Limit; got != 20 {
			t.Errorf("starts at %d, want 20", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for ctx.Err() == nil {
					s.Call(ctx, call(1))
				}
			})
		}
		time.Sleep(time.Minute)
		before, low, high := served.Load(), 1<<30, 0
		for range 30 {
			time.Sleep(time.Second)
			low, high = min(low, s.State().Limit), max(high, s.State().Limit)
		}
		rate := float64(served.Load()-before) / 30
		cancel()
		wg.Wait()
		t.Logf("limit %d to %d, %.0f calls a second of %d possible", low, high, rate, capacity*50)
		if low < capacity/4 || high > callers/2 {
			t.Errorf("limit %d to %d, want it around %d", low, high, capacity)
		}
		if rate < 0.9*capacity*50 {
			t.Errorf("%.0f calls a second of %d possible", rate, capacity*50)
		}
	})
}
