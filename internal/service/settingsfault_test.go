package service_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

// TestAMistakeInTheSettingsIsNobodysJob has a service that answers 401 to a backlog, as with a
// wrong secret: one request, one warning with the reason, no job at fault, until it is fixed.
func TestAMistakeInTheSettingsIsNobodysJob(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var fixed atomic.Bool
		var sent atomic.Int32
		d := deps()
		d.Log = zerolog.New(&log)
		s := service.NewFake(config(), d, func(_ context.Context, c *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
			sent.Add(1)
			if fixed.Load() {
				return make([]jobs.Reply, len(c.Jobs)), nil
			}
			return nil, &jobs.Failure{Reason: jobs.ReasonHTTP4xx, Code: 401, Misconfigured: true, Err: errors.New("answered 401: bad signature")}
		})
		for range 2000 {
			r := s.Call(t.Context(), call(50))
			if r.Failure == nil || r.Failure.Final || !r.Failure.Free || !r.Failure.Misconfigured || !strings.Contains(r.Failure.Error(), "bad signature") {
				t.Fatalf("got %+v, want a failure of nobody's with the reason", r.Failure)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := sent.Load(); n > 10 {
			t.Errorf("%d requests in 20 s, want one and a few probes", n)
		}
		if st := s.State(); !st.Misconfigured || !strings.Contains(st.LastError, "401") || st.Breaker == jobs.BreakerClosed {
			t.Errorf("state %+v", st)
		}
		if n := strings.Count(log.String(), `"level":"warn"`); n != 1 || !strings.Contains(log.String(), "bad signature") {
			t.Errorf("%d warnings:\n%s", n, log.String())
		}
		fixed.Store(true)
		time.Sleep(7 * time.Second)
		for range 3 {
			if r := s.Call(t.Context(), call(50)); r.Failure != nil {
				t.Fatal(r.Failure)
			}
		}
		if st := s.State(); st.Breaker != jobs.BreakerClosed || st.Misconfigured {
			t.Errorf("after it was fixed: %+v", st)
		}
	})
}

func TestTheReasonIsTheStatusAndWhatTheServiceSaid(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code       int
		body, want string
	}{
		"a name":               {422, "", "http_4xx: answered 422 Unprocessable Entity"},
		"a name and a body":    {422, "no customer", "http_4xx: answered 422 Unprocessable Entity: no customer"},
		"no name":              {499, "", "http_4xx: answered 499"},
		"no name, but a body":  {499, "no customer", "http_4xx: answered 499: no customer"},
		"a body of blank only": {499, " \n", "http_4xx: answered 499"},
	} {
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.code)
			_, _ = w.Write([]byte(c.body))
		})
		r := newService(t, url, config(), service.Deps{}).Call(t.Context(), call(1))
		if r.Failure == nil || r.Failure.Error() != c.want {
			t.Errorf("%s: %q, want %q", name, r.Failure, c.want)
		}
	}
}

func TestStatusListsGoBeforeWhatAStatusMeans(t *testing.T) {
	t.Parallel()
	list := func(text string) (s service.Statuses) {
		if err := s.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		return s
	}
	for name, test := range map[string]struct {
		edit func(*service.Config)
		code int
		want want
	}{
		"a 401 that is the job's":      {func(c *service.Config) { c.Fail = list("401") }, 401, want{reason: jobs.ReasonHTTP4xx, tries: 1, code: 401, final: true}},
		"a 404 that is the job's":      {func(c *service.Config) { c.Fail = list("404,410") }, 404, want{reason: jobs.ReasonHTTP4xx, tries: 1, code: 404, final: true}},
		"a 500 that is the job's":      {func(c *service.Config) { c.Fail = list("500-599") }, 503, want{reason: jobs.ReasonHTTP5xx, tries: 1, code: 503, final: true}},
		"a 409 that may pass":          {func(c *service.Config) { c.Retry = list("409") }, 409, want{reason: jobs.ReasonHTTP4xx, tries: 3, code: 409}},
		"a 200 that is none":           {func(c *service.Config) { c.Fail = list("200") }, 200, want{reason: jobs.ReasonBadResponse, tries: 1, code: 200, final: true}},
		"a 409 that is a success":      {func(c *service.Config) { c.OK = list("200-299, 409") }, 409, want{}},
		"a redirect that is a success": {func(c *service.Config) { c.OK = list("302") }, 302, want{}},
		"429 stays not now":            {func(c *service.Config) { c.Retry = list("429,500-599") }, 429, want{reason: jobs.ReasonThrottled, tries: 1, code: 429}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config()
			test.edit(&cfg)
			url := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(test.code) })
			r := newService(t, url, cfg, service.Deps{}).Call(t.Context(), call(2))
			if test.want == (want{}) {
				if r.Failure != nil {
					t.Error(r.Failure)
				}
				return
			}
			test.want.check(t, r)
		})
	}
}

// TestAThrottledServiceIsCalledLess answers 429 without a word of how long, for 30 seconds.
func TestAThrottledServiceIsCalledLess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sent atomic.Int32
		begun := time.Now()
		s := service.NewFake(config(), deps(), func(_ context.Context, c *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
			sent.Add(1)
			if time.Since(begun) < 30*time.Second {
				return nil, &jobs.Failure{Reason: jobs.ReasonThrottled, Code: 429, Err: errors.New("answered 429")}
			}
			return make([]jobs.Reply, len(c.Jobs)), nil
		})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for {
					r := s.Call(t.Context(), call(10))
					if time.Since(begun) >= 30*time.Second {
						return
					}
					if r.Failure == nil || !r.Failure.Free || r.Failure.Reason != jobs.ReasonThrottled {
						t.Errorf("got %+v, want a free failure", r)
						return
					}
					time.Sleep(100 * time.Millisecond)
				}
			})
		}
		wg.Wait()
		if n := sent.Load(); n > 70 {
			t.Errorf("%d requests in 30 s of 429, want a few dozen at most", n)
		}
		if st := s.State(); st.Breaker != jobs.BreakerClosed || st.Pace == 0 {
			t.Errorf("state %+v, want a closed breaker and a slow pace", st)
		}
		for range 100 {
			s.Call(t.Context(), call(1))
		}
		if took, st := time.Since(begun), s.State(); st.Pace != 0 || took > 80*time.Second {
			t.Errorf("after %v of success the pace is still %v", took-30*time.Second, st.Pace)
		}
	})
}

func TestRetryAfterOf429HoldsBackEveryCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		s := service.NewFake(config(), deps(), func(_ context.Context, c *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
			if sent++; sent == 1 {
				return nil, &jobs.Failure{Reason: jobs.ReasonThrottled, Code: 429, RetryAfter: 20 * time.Second, Err: errors.New("answered 429")}
			}
			return make([]jobs.Reply, len(c.Jobs)), nil
		})
		s.Call(t.Context(), call(1))
		time.Sleep(time.Second)
		r := s.Call(t.Context(), call(1))
		if r.Failure == nil || r.Tries != 0 || !r.Failure.Free || r.Failure.RetryAfter != 19*time.Second || sent != 1 {
			t.Errorf("a second later: %+v, %d sent; want nothing sent, back in 19 s", r, sent)
		}
		time.Sleep(20 * time.Second)
		if r := s.Call(t.Context(), call(1)); r.Failure != nil {
			t.Error(r.Failure)
		}
	})
}

// TestOurOwnShortageIsNotTheServices has a process without a file descriptor left.
func TestOurOwnShortageIsNotTheServices(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	if f := service.Broken(t.Context(), &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}); f.Reason != jobs.ReasonOverload {
		t.Errorf("a socket that could not be opened: %v", f)
	}
	d := service.Deps{Log: zerolog.New(&log), Resolver: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}
	}}}
	cfg := config()
	cfg.Tries = 1
	s := newService(t, "http://billing.invalid", cfg, d)
	for range 30 {
		r := s.Call(t.Context(), call(1))
		want{reason: jobs.ReasonOverload}.check(t, r)
		if !r.Failure.Free || !strings.Contains(r.Failure.Error(), "open files") {
			t.Fatalf("got %+v", r.Failure)
		}
	}
	if st := s.State(); st.Breaker != jobs.BreakerClosed {
		t.Errorf("the breaker is %s", st.Breaker)
	}
	if n := strings.Count(log.String(), `"level":"warn"`); n != 1 {
		t.Errorf("%d warnings:\n%s", n, log.String())
	}
}

// TestAResetOfAKeptConnectionIsNoFailure has a service behind a box that forgets idle
// connections: whatever is sent on one of them is answered by a reset.
func TestAResetOfAKeptConnectionIsNoFailure(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]service.Config{
		"a batch": config(),
		"GET":     formatted(service.FormatPlain, func(c *service.Config) { c.Method = http.MethodGet }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkResetOfKept(t, cfg)
		})
	}
}

func checkResetOfKept(t *testing.T, cfg service.Config) {
	t.Helper()
	const kept = 6
	var idle atomic.Bool
	arrived := make(chan struct{}, kept)
	release := make(chan struct{})
	srv := raw(t, func(c *net.TCPConn) {
		for first := true; ; first = false {
			if !first && idle.Load() {
				_, _ = c.Read(make([]byte, 1)) // something was sent
				_ = c.SetLinger(0)
				return
			}
			if !first {
				readRequest(c)
			}
			if !idle.Load() {
				arrived <- struct{}{}
				<-release
			}
			if _, err := c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")); err != nil {
				return
			}
			if !first {
				return
			}
		}
	})
	cfg.Tries = 1
	s := newService(t, srv.url, cfg, service.Deps{})
	var wg sync.WaitGroup
	for range kept {
		wg.Go(func() {
			if r := s.Call(t.Context(), call(1)); r.Failure != nil {
				t.Error(r.Failure)
			}
		})
	}
	for range kept {
		<-arrived
	}
	idle.Store(true)
	close(release)
	wg.Wait()
	for range kept {
		if r := s.Call(t.Context(), call(1)); r.Failure != nil || r.Tries != 1 || r.Replies[0].Status != ok {
			t.Errorf("got %+v, want a success at once", r)
		}
	}
	if st := s.State(); st.LastError != "" {
		t.Errorf("last error %q", st.LastError)
	}
}

// TestConnectionsHaveAnAge has a name that moves to another address while the old one lives on.
func TestConnectionsHaveAnAge(t *testing.T) {
	t.Parallel()
	var before, after atomic.Int32
	first := serve(t, func(http.ResponseWriter, *http.Request) { before.Add(1) })
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(first, "http://"))
	l, err := net.Listen("tcp", "127.0.0.2:"+port)
	if err != nil {
		t.Skipf("a second loopback address is needed: %v", err)
	}
	second := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { after.Add(1) })}
	served := make(chan struct{})
	go func() { defer close(served); _ = second.Serve(l) }()
	t.Cleanup(func() { _ = second.Close(); <-served })
	var moved atomic.Bool
	resolver := nameServer(t, func() []byte {
		if moved.Load() {
			return []byte{127, 0, 0, 2}
		}
		return []byte{127, 0, 0, 1}
	})
	s := newService(t, "http://moving.invalid:"+port, config(), service.Deps{Resolver: resolver, ConnAge: time.Second})
	s.Call(t.Context(), call(1))
	moved.Store(true)
	for deadline := time.Now().Add(10 * time.Second); after.Load() == 0; {
		if r := s.Call(t.Context(), call(1)); r.Failure != nil {
			t.Fatal(r.Failure)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d calls, none of them to the new address", before.Load())
		}
	}
}
