package service_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

func TestConnectionsAreKeptAndBounded(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	peers := map[string]bool{}
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		peers[r.RemoteAddr] = true
		mu.Unlock()
		_, _ = io.WriteString(w, `{"results":[{"id":"a0","status":"ok"}]}`)
	})
	cfg := config()
	cfg.Concurrency = 4
	s := newService(t, url, cfg, service.Deps{})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 50 {
				if r := s.Call(t.Context(), call(1)); r.Failure != nil {
					t.Error(r.Failure)
				}
			}
		})
	}
	wg.Wait()
	if len(peers) > 4 {
		t.Errorf("800 calls used %d connections, want at most 4", len(peers))
	}
}

// TestOneTryIsOneRequestThoughConnectionsAreKept has a service that breaks on one request: net/http
// must not offer it that request again on each of the connections that it keeps.
func TestOneTryIsOneRequestThoughConnectionsAreKept(t *testing.T) {
	t.Parallel()
	byGet := func(c *service.Config) { c.Method = http.MethodGet }
	for name, test := range map[string]struct {
		cfg service.Config
		tls bool
	}{
		"a batch":            {cfg: config()},
		"a key of their own": {cfg: formatted(service.FormatPlain, func(c *service.Config) { c.Headers = jobs.NewSecret("X-Idempotency-Key:{uid}") })},
		"GET":                {cfg: formatted(service.FormatPlain, byGet)},
		"GET over TLS":       {cfg: formatted(service.FormatPlain, byGet), tls: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const kept = 8
			var poison atomic.Bool
			var poisoned atomic.Int32
			arrived := make(chan struct{}, kept)
			answer := make(chan struct{})
			handle := func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if poison.Load() {
					poisoned.Add(1)
					panic(http.ErrAbortHandler)
				}
				arrived <- struct{}{}
				<-answer
			}
			cfg := test.cfg
			cfg.Tries, cfg.Concurrency = 1, kept
			var url string
			if test.tls {
				ca := newAuthority(t)
				cert, key := issue(t, ca, unchanged)
				url, cfg.CA = serveTLS(t, cert, key, asIs, handle), ca.file
			} else {
				url = serve(t, handle)
			}
			s := newService(t, url, cfg, service.Deps{})
			var wg sync.WaitGroup
			for range kept {
				wg.Go(func() {
					if r := s.Call(t.Context(), call(1)); r.Failure != nil || r.Replies[0].Status != ok {
						t.Errorf("%+v", r)
					}
				})
			}
			for range kept {
				<-arrived
			}
			close(answer)
			wg.Wait()
			poison.Store(true)
			r := s.Call(t.Context(), call(1))
			if cfg.Format == service.FormatBatch {
				want{reason: jobs.ReasonReset, tries: 1}.check(t, r)
			} else if r.Failure != nil || r.Tries != 1 || r.Replies[0].Status != retry || r.Replies[0].Free || !strings.HasPrefix(r.Replies[0].Error, jobs.ReasonReset) {
				t.Errorf("%+v", r)
			}
			if n := poisoned.Load(); n != 1 {
				t.Errorf("one try sent the request %d times", n)
			}
		})
	}
}

// TestAKeptConnectionThatIsClosedBeforeTheRequestIsNoFailure has the service close a connection when a
// request has got it, and when its headers are ready: no byte of it has left.
func TestAKeptConnectionThatIsClosedBeforeTheRequestIsNoFailure(t *testing.T) {
	t.Parallel()
	for _, length := range []int{100, 28_000} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d bytes, headers ready %t", length, late), func(t *testing.T) {
				t.Parallel()
				var requests atomic.Int32
				srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					requests.Add(1)
					_, _ = io.Copy(io.Discard, r.Body)
				}))
				t.Cleanup(srv.Close)
				cfg := config()
				cfg.Tries = 1
				s := newService(t, srv.URL, cfg, service.Deps{})
				var kept net.Conn
				closed := func() {
					if kept == nil {
						return
					}
					srv.CloseClientConnections()
					for kept.SetDeadline(time.Time{}) == nil { // until our side has seen it
						time.Sleep(time.Millisecond)
					}
					kept = nil
				}
				hooks := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
					if info.Reused {
						kept = info.Conn
					}
					if !late {
						closed()
					}
				}}
				if late {
					hooks.WroteHeaders = closed
				}
				c := call(1)
				c.Body = bytes.Repeat([]byte("x"), length)
				for range 2 {
					if r := s.Call(httptrace.WithClientTrace(t.Context(), hooks), c); r.Failure != nil || r.Tries != 1 {
						t.Fatalf("%d tries, %v", r.Tries, r.Failure)
					}
				}
				if n := requests.Load(); n != 2 {
					t.Errorf("%d requests for two calls", n)
				}
			})
		}
	}
}

func TestNoProxyFromTheEnvironment(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	if r := newService(t, strings.Replace(serve(t, fine), "127.0.0.1", "localhost", 1), config(), service.Deps{}).Call(t.Context(), call(1)); r.Failure != nil {
		t.Error(r.Failure)
	}
}

// BenchmarkCall compares a call with the least that net/http can do.
// Long and short bodies take turns on one connection, and each arrives as it is.
func TestBodiesOfAnyLengthArrive(t *testing.T) {
	t.Parallel()
	got := make(chan []byte, 1)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.ContentLength != int64(len(body)) {
			t.Errorf("%d bytes of %d: %v", len(body), r.ContentLength, err)
		}
		got <- body
		w.WriteHeader(http.StatusNoContent)
	})
	cfg := config()
	cfg.Concurrency = 1
	s := newService(t, url, cfg, service.Deps{})
	for range 300 {
		c := call(1)
		c.Body = make([]byte, rand.IntN(1<<rand.IntN(18)+1))
		for i := range c.Body {
			c.Body[i] = byte(rand.Uint32())
		}
		if r := s.Call(t.Context(), c); r.Failure != nil {
			t.Fatal(r.Failure)
		}
		if body := <-got; !bytes.Equal(body, c.Body) {
			t.Fatalf("of %d bytes %d arrived, or others", len(c.Body), len(body))
		}
	}
}

func BenchmarkCall(b *testing.B) {
	url := serve(b, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	for name, n := range map[string]int{"1": 1, "96": 96} {
		c := call(n)
		b.Run("service/"+name, func(b *testing.B) {
			s := newService(b, url, config(), service.Deps{})
			b.ReportAllocs()
			for b.Loop() {
				if r := s.Call(context.Background(), c); r.Failure != nil {
					b.Fatal(r.Failure)
				}
			}
		})
		b.Run("plain/"+name, func(b *testing.B) {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			b.ReportAllocs()
			for b.Loop() {
				resp, err := client.Post(url, jobs.MediaBatch, bytes.NewReader(c.Body))
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
}

// BenchmarkPlain compares the requests that the format plain makes of a batch with the same
// requests made by hand, 32 at once. Both share the process with the service, so the figures
// hold its work as well.
func BenchmarkPlain(b *testing.B) {
	const n = 96
	url := serve(b, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	c := call(n)
	b.Run("service", func(b *testing.B) {
		cfg := formatted(service.FormatPlain)
		cfg.Concurrency = 32
		s := newService(b, url+"/orders/{id}", cfg, service.Deps{})
		b.ReportAllocs()
		for b.Loop() {
			if r := s.Call(context.Background(), c); r.Failure != nil || r.Tries != n {
				b.Fatalf("%+v", r)
			}
		}
	})
	b.Run("by hand", func(b *testing.B) {
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
		defer client.CloseIdleConnections()
		b.ReportAllocs()
		for b.Loop() {
			var wg sync.WaitGroup
			var next atomic.Int64
			for range 32 {
				wg.Go(func() {
					for i := next.Add(1) - 1; i < n; i = next.Add(1) - 1 {
						byHand(b, client, url+"/orders/"+c.Jobs[i].ID, c.Jobs[i])
					}
				})
			}
			wg.Wait()
		}
	})
}

// byHand makes the request that somebody without Rollcall would make for a job.
func byHand(b *testing.B, client *http.Client, url string, j *jobs.Job) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, bytes.NewReader(j.Body))
	if err != nil {
		b.Error(err)
		return
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", j.UID)
	resp, err := client.Do(req)
	if err != nil {
		b.Error(err)
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
}
