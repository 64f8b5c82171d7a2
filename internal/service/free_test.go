package service_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

// TestWhatBurnsAnAttempt has what a service's trouble costs its jobs.
func TestWhatBurnsAnAttempt(t *testing.T) {
	t.Parallel()
	for reason, free := range map[string]bool{
		jobs.ReasonTimeout: false, jobs.ReasonReset: false, jobs.ReasonHTTP5xx: false, jobs.ReasonHTTP4xx: false,
		jobs.ReasonBadResponse: false, jobs.ReasonTooLarge: false, jobs.ReasonPanic: false,
		jobs.ReasonRefused: true, jobs.ReasonDNS: true, jobs.ReasonTLS: true, jobs.ReasonThrottled: true,
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := service.NewFake(config(), deps(), func(context.Context, *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
					return nil, &jobs.Failure{Reason: reason, Err: errors.New("said so")}
				})
				r := s.Call(t.Context(), call(1))
				if r.Failure == nil || r.Failure.Free != free {
					t.Errorf("got %+v, want free = %v", r.Failure, free)
				}
			})
		})
	}
}

// TestOneTryThatBurnsIsEnough has a call whose first try was answered and whose second found
// no connection: the first one counts.
func TestOneTryThatBurnsIsEnough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		s := service.NewFake(config(), deps(), func(context.Context, *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
			if tries++; tries == 1 {
				return nil, unavailable()
			}
			return nil, &jobs.Failure{Reason: jobs.ReasonRefused, Err: errors.New("refused")}
		})
		if r := s.Call(t.Context(), call(1)); r.Failure == nil || r.Failure.Free || r.Failure.Reason != jobs.ReasonRefused {
			t.Errorf("got %+v, want a failure that burns an attempt", r.Failure)
		}
	})
}

// TestCallsWhileTheBreakerIsNotClosedBurnNoAttempt goes through open and half-open.
func TestCallsWhileTheBreakerIsNotClosedBurnNoAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Tries = 1
		asks := false
		s := service.NewFake(cfg, deps(), func(_ context.Context, c *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
			if asks {
				return make([]jobs.Reply, len(c.Jobs)), nil
			}
			return nil, unavailable()
		})
		for i := range 10 {
			if r := s.Call(t.Context(), call(1)); r.Failure.Free {
				t.Fatalf("failure %d of a closed breaker is free: %v", i, r.Failure)
			}
		}
		if r := s.Call(t.Context(), call(1)); r.Failure.Reason != jobs.ReasonBreakerOpen || !r.Failure.Free {
			t.Errorf("open: %+v, want free", r.Failure)
		}
		for range 3 {
			time.Sleep(10 * time.Second)
			if r := s.Call(t.Context(), call(1)); r.Failure.Reason != jobs.ReasonHTTP5xx || !r.Failure.Free {
				t.Errorf("a probe: %+v, want free", r.Failure)
			}
		}
		asks = true
		time.Sleep(10 * time.Second)
		if r := s.Call(t.Context(), call(1)); r.Failure != nil || !r.Replies[0].Free {
			t.Errorf("a probe that asks for a retry: %+v, want a free reply", r)
		}
	})
}

// TestAJobThatFailsWhileTheServiceAnswersOthersBurnsItsAttempts: in a quiet pool one such job
// opens the breaker alone. For free it would be called for until its age ends it.
func TestAJobThatFailsWhileTheServiceAnswersOthersBurnsItsAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Tries = 1
		poison := call(1)
		s := service.NewFake(cfg, deps(), func(_ context.Context, c *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
			if c == poison {
				return nil, unavailable()
			}
			return []jobs.Reply{{Status: jobs.StatusOK}}, nil
		})
		for s.State().Breaker == "closed" {
			s.Call(t.Context(), poison)
		}
		for range 3 {
			time.Sleep(10 * time.Second)
			if r := s.Call(t.Context(), call(1)); r.Failure != nil {
				t.Fatalf("another job: %v", r.Failure)
			}
			if r := s.Call(t.Context(), poison); r.Failure.Reason != jobs.ReasonHTTP5xx || r.Failure.Free {
				t.Errorf("after another job was answered: %+v, want that it burns an attempt", r.Failure)
			}
		}
		time.Sleep(40 * time.Second)
		if r := s.Call(t.Context(), poison); r.Failure.Reason != jobs.ReasonHTTP5xx || !r.Failure.Free {
			t.Errorf("when nothing was answered for long: %+v, want free", r.Failure)
		}
	})
}
