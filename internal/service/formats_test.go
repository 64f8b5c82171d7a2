package service_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

// callOf returns a call for jobs made of deliveries, in the way the pool makes one.
func callOf(deliveries ...jobs.Delivery) *jobs.Call {
	c := &jobs.Call{BatchID: "0190b0c4-0000-7000-8000-000000000001", Pool: "default", Service: "billing", Key: "b:billing"}
	for i, d := range deliveries {
		if d.Subject == "" {
			d.Subject = "jobs.order.eu"
		}
		d.Source, d.Ref = "/rollcall/JOBS/e", jobs.Ref{Epoch: "e", Seq: uint64(i + 1)}
		d.Published = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
		j := jobs.Decode(d, 0)
		c.Jobs = append(c.Jobs, &j)
	}
	return c
}

// formatted returns settings of a format.
func formatted(format service.Format, edit ...func(*service.Config)) service.Config {
	cfg := config()
	cfg.Format = format
	for _, e := range edit {
		e(&cfg)
	}
	return cfg
}

// arrived is a request as a service saw it.
type arrived struct {
	Method, URI, Host string
	Header            http.Header
	Body              string
}

// collector is a service that says 200 and remembers what it got.
type collector struct {
	mu  sync.Mutex
	got []arrived
}

func (c *collector) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, arrived{r.Method, r.RequestURI, r.Host, r.Header, string(body)})
}

// one returns the only request.
func (c *collector) one(t *testing.T) arrived {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.got) != 1 {
		t.Fatalf("%d requests, want 1", len(c.got))
	}
	return c.got[0]
}

// TestWhatARequestForOneJobCarries has the rows of the table of formats.
func TestWhatARequestForOneJobCarries(t *testing.T) {
	t.Parallel()
	delivery := jobs.Delivery{Data: []byte(`{"order":{"id":17}}`), Header: map[string][]string{
		"Content-Type": {"application/vnd.order+json"}, "ce-id": {"order 17"}, "ce-source": {"/shop"}, "ce-type": {"order.placed"}, "ce-tenant": {"acme"},
		"traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, "tracestate": {"a=b"}, "Rollcall-Deadline": {"2099-01-01T00:00:00Z"}, "Rollcall-Set": {"import-7"},
	}}
	common := map[string]string{
		"Idempotency-Key": `"e.1:billing"`, "Rollcall-Batch": "0190b0c4-0000-7000-8000-000000000001", "Rollcall-Pool": "default",
		"Rollcall-Uid": "e.1", "Rollcall-Attempt": "1", "Rollcall-Deadline": "2099-01-01T00:00:00Z", "Content-Type": "application/vnd.order+json",
		"Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Tracestate": "a=b", "Authorization": "Bearer tok", "X-Api-Key": "key-17", "Webhook-Id": "e.1:billing",
	}
	event := map[string]string{
		"Ce-Specversion": "1.0", "Ce-Id": "order%2017", "Ce-Source": "/shop", "Ce-Type": "order.placed", "Ce-Subject": "jobs.order.eu", "Ce-Time": "2026-01-31T12:00:00Z",
		"Ce-Tenant": "acme", "Ce-Rollcalluid": "e.1", "Ce-Rollcallsubject": "jobs.order.eu", "Ce-Rollcallattempt": "1", "Ce-Rollcalldeadline": "2099-01-01T00:00:00Z", "Ce-Rollcallset": "import-7",
		"Ce-Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Ce-Tracestate": "a=b",
	}
	for format, ce := range map[service.Format]bool{service.FormatEvent: true, service.FormatPlain: false} {
		t.Run(format.String(), func(t *testing.T) {
			t.Parallel()
			var got collector
			cfg := formatted(format, func(c *service.Config) {
				c.Token, c.Secret, c.Headers = jobs.NewSecret("tok"), jobs.NewSecret(secretA), jobs.NewSecret("X-Api-Key:key-{data:/order/id}")
			})
			r := newService(t, serve(t, got.ServeHTTP)+"/v1/{type}/{subject:3}?id={id}", cfg, service.Deps{Version: "1.2.3"}).Call(t.Context(), callOf(delivery))
			if r.Failure != nil || r.Replies[0].Status != ok || r.Tries != 1 {
				t.Fatalf("%+v", r)
			}
			a := got.one(t)
			if a.Method != http.MethodPost || a.URI != "/v1/order.placed/eu?id=order%2017" || a.Body != string(delivery.Data) {
				t.Errorf("%s %s with %s", a.Method, a.URI, a.Body)
			}
			for name, want := range common {
				if got := a.Header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			for name, want := range event {
				if !ce {
					want = ""
				}
				if got := a.Header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if !strings.HasPrefix(a.Header.Get("Webhook-Signature"), "v1,") {
				t.Errorf("signature %q", a.Header.Get("Webhook-Signature"))
			}
		})
	}
}

func TestMethodsWithoutABody(t *testing.T) {
	t.Parallel()
	for method, sends := range map[string]bool{http.MethodGet: false, http.MethodDelete: false, http.MethodPut: true, http.MethodPatch: true} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			for _, body := range []string{"text", strings.Repeat("long", 10_000)} {
				var got collector
				cfg := formatted(service.FormatPlain, func(c *service.Config) { c.Method = method })
				r := newService(t, serve(t, got.ServeHTTP)+"/{uid}", cfg, service.Deps{}).Call(t.Context(), callOf(jobs.Delivery{Data: []byte(body)}))
				if a := got.one(t); r.Failure != nil || a.Method != method || (a.Body == body) != sends || (a.Header.Get("Content-Type") == "text/plain") != sends {
					t.Errorf("a body of %d bytes: %+v: %s %s, %d bytes", len(body), r, a.Method, a.Header, len(a.Body))
				}
			}
		})
	}
}

// TestTheKeyOfAJobStaysTheSame compares two attempts in different batches.
func TestTheKeyOfAJobStaysTheSame(t *testing.T) {
	t.Parallel()
	var got collector
	s := newService(t, serve(t, got.ServeHTTP), formatted(service.FormatPlain), service.Deps{})
	c := callOf(jobs.Delivery{Data: []byte("1")})
	s.Call(t.Context(), c)
	c.BatchID = "0190b0c4-0000-7000-8000-000000000002"
	c.Jobs[0].Record.Attempts = 3
	s.Call(t.Context(), c)
	if len(got.got) != 2 || got.got[0].Header.Get("Idempotency-Key") != got.got[1].Header.Get("Idempotency-Key") || got.got[0].Body != got.got[1].Body {
		t.Errorf("%+v", got.got)
	}
	if got.got[1].Header.Get("Rollcall-Attempt") != "4" {
		t.Errorf("attempt %q", got.got[1].Header.Get("Rollcall-Attempt"))
	}
}

// TestRequestsForJobsGoSideBySide has one call of many jobs meet the concurrency of its service.
func TestRequestsForJobsGoSideBySide(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int32
		cfg := formatted(service.FormatPlain)
		cfg.Concurrency = 4
		s := service.NewFake(cfg, deps(), func(_ context.Context, c *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			time.Sleep(time.Second)
			if len(c.Jobs) != 1 || c.Key != c.Jobs[0].UID+":billing" {
				t.Errorf("a request for %d jobs under the key %s", len(c.Jobs), c.Key)
			}
			return []jobs.Reply{{Status: ok}}, nil
		})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if r := s.Call(t.Context(), call(40)); r.Failure != nil || r.Tries != 40 {
					t.Errorf("%+v", r)
				}
			})
		}
		begun := time.Now()
		wg.Wait()
		if took := time.Since(begun); most.Load() != 4 || took != 30*time.Second {
			t.Errorf("%d at once, %v in all; want 4, 30s", most.Load(), took)
		}
	})
}

// TestACutCallWaitsForNoTurn has a call that is given up while the requests of an older one take all
// that the service may be sent at once.
func TestACutCallWaitsForNoTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := formatted(service.FormatPlain)
		cfg.Concurrency = 2
		s := service.NewFake(cfg, deps(), func(ctx context.Context, _ *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
			select {
			case <-time.After(5 * time.Second):
				return []jobs.Reply{{Status: ok}}, nil
			case <-ctx.Done():
				return nil, unavailable()
			}
		})
		var older sync.WaitGroup
		older.Go(func() {
			if r := s.Call(t.Context(), call(4)); r.Tries != 4 {
				t.Errorf("the older call made %d requests, want 4", r.Tries)
			}
		})
		synctest.Wait()
		ctx, cut := context.WithTimeout(t.Context(), time.Second)
		defer cut()
		begun := time.Now()
		r := s.Call(ctx, call(40))
		if took := time.Since(begun); took != time.Second || r.Tries != 0 || r.Failure == nil || r.Failure.Reason != jobs.ReasonCanceled {
			t.Errorf("given up after a second, it ended after %v: %+v", took, r)
		}
		older.Wait()
	})
}

// TestOneOfManyRequestsFails has trouble of single requests stay theirs.
func TestOneOfManyRequestsFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := formatted(service.FormatPlain)
		cfg.Tries = 2
		s := service.NewFake(cfg, deps(), func(_ context.Context, c *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
			switch c.Jobs[0].ID {
			case "a1":
				return nil, &jobs.Failure{Reason: jobs.ReasonHTTP4xx, Code: 422, Final: true, Err: fmt.Errorf("answered 422: no customer")}
			case "a2":
				return nil, unavailable()
			}
			return []jobs.Reply{{Status: ok}}, nil
		})
		r := s.Call(t.Context(), call(4))
		if r.Failure != nil || r.Tries != 5 || r.Repeats != 1 {
			t.Fatalf("%+v", r)
		}
		if diff := cmp.Diff([]jobs.Status{ok, fail, retry, ok}, statuses(r.Replies)); diff != "" {
			t.Error(diff)
		}
		if r.Replies[1].Free || r.Replies[2].Free || !strings.Contains(r.Replies[1].Error, "no customer") {
			t.Errorf("%+v", r.Replies)
		}
	})
}

// TestAPanicOfOneRequestIsThatJobs has a job that a request cannot be made of.
func TestAPanicOfOneRequestIsThatJobs(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := newService(t, serve(t, fine), formatted(service.FormatPlain), service.Deps{Log: zerolog.New(&log)})
	c := callOf(jobs.Delivery{}, jobs.Delivery{}, jobs.Delivery{})
	c.Jobs[1] = nil
	r := s.Call(t.Context(), c)
	if r.Failure != nil || r.Tries != 2 || !strings.HasPrefix(r.Replies[1].Error, jobs.ReasonPanic) || r.Replies[1].Free {
		t.Fatalf("%+v", r)
	}
	if diff := cmp.Diff([]jobs.Status{ok, retry, ok}, statuses(r.Replies)); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(log.String(), "each.go") {
		t.Errorf("no stack in the log: %s", log.String())
	}
}

// TestNothingSentIsNoAttempt has an open breaker: the call says so as a whole.
func TestNothingSentIsNoAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sent atomic.Int32
		s := service.NewFake(formatted(service.FormatPlain), deps(), func(context.Context, *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
			sent.Add(1)
			return nil, &jobs.Failure{Reason: jobs.ReasonHTTP4xx, Code: 401, Misconfigured: true, Err: fmt.Errorf("answered 401")}
		})
		r := s.Call(t.Context(), call(50))
		for i, reply := range r.Replies {
			if reply.Status != retry || !reply.Free {
				t.Fatalf("job %d: %+v", i, reply)
			}
		}
		if n := sent.Load(); n > 8 {
			t.Errorf("%d requests at a concurrency of 8", n)
		}
		r = s.Call(t.Context(), call(50))
		if r.Failure == nil || r.Tries != 0 || !r.Failure.Free || !r.Failure.Misconfigured || r.Replies != nil {
			t.Errorf("%+v", r)
		}
	})
}

// TestAReplyOfOneJobNeverMakesASuccessUnreadable has bodies that no reply of a batch could be.
func TestAReplyOfOneJobNeverMakesASuccessUnreadable(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"HTML": "<html>", "cut": `{"status":`, "our own words": `{"results":[{"id":"zz","status":"ok"}]}`, "binary": "\xff\x00", "long": strings.Repeat("x", 1<<20+1), "short": "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := formatted(service.FormatPlain, func(c *service.Config) {
				c.Keep = true
				_ = c.FailIf.UnmarshalText([]byte("/status=error"))
			})
			url := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
			if r := newService(t, url, cfg, service.Deps{}).Call(t.Context(), callOf(jobs.Delivery{})); r.Failure != nil || r.Replies[0].Status != ok || r.Tries != 1 {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestWhatIsKeptOfReplies(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "\ufeff{\n \"invoice\": \""+strings.Repeat(r.URL.Path[1:], 30)+"\"}\n")
	})
	cfg := formatted(service.FormatPlain, func(c *service.Config) { c.Keep, c.MaxReply, c.Concurrency = true, 100, 1 })
	r := newService(t, url+"/{subject:2}", cfg, service.Deps{}).Call(t.Context(), callOf(jobs.Delivery{Subject: "jobs.a"}, jobs.Delivery{Subject: "jobs.b"}, jobs.Delivery{Subject: "jobs.c"}))
	if r.Failure != nil {
		t.Fatal(r.Failure)
	}
	kept := 0
	for i, reply := range r.Replies {
		if reply.Status != ok {
			t.Errorf("job %d: %+v", i, reply)
		}
		if kept += len(reply.Data); strings.ContainsAny(string(reply.Data), "\n\ufeff") {
			t.Errorf("kept %q", reply.Data)
		}
	}
	if kept == 0 || kept > 100 {
		t.Errorf("%d bytes kept of three replies, want some and at most 100", kept)
	}
}

func TestNobodyIsAskedToCompressWhatNobodyReads(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		cfg  service.Config
		want string
	}{
		{"the status says all", formatted(service.FormatPlain), ""},
		{"the body is kept", formatted(service.FormatPlain, func(c *service.Config) { c.Keep = true }), "gzip"},
		{"the body is read", formatted(service.FormatBatch), "gzip"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got collector
			r := newService(t, serve(t, got.ServeHTTP), tt.cfg, service.Deps{}).Call(t.Context(), callOf(jobs.Delivery{Data: []byte("{}")}))
			if a := got.one(t); r.Failure != nil || a.Header.Get("Accept-Encoding") != tt.want {
				t.Errorf("%+v: Accept-Encoding %q, want %q", r, a.Header.Get("Accept-Encoding"), tt.want)
			}
		})
	}
}

func TestConditions(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]jobs.Status{
		`{"status":"error","message":"no such card"}`: fail, `{"status":"ok"}`: ok, `{"code":"busy"}`: retry, `{"code":"locked"}`: retry, `{"code":7}`: retry,
		`{"code":"busy","status":"error"}`: fail, `{"code":["busy"]}`: ok, `[1]`: ok, `{"nested":{"status":"error"}}`: ok,
	} {
		t.Run(body, func(t *testing.T) {
			t.Parallel()
			cfg := formatted(service.FormatEvent, func(c *service.Config) {
				_ = c.FailIf.UnmarshalText([]byte("/status=error"))
				_ = c.RetryIf.UnmarshalText([]byte("/code=busy|locked|7"))
			})
			url := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
			r := newService(t, url, cfg, service.Deps{}).Call(t.Context(), callOf(jobs.Delivery{}))
			if r.Failure != nil || r.Replies[0].Status != want || want == fail && !strings.Contains(r.Replies[0].Error, "/status=error") {
				t.Errorf("%+v, want %v", r, want)
			}
		})
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	cfg := config()
	if !newService(t, "http://h", cfg, service.Deps{}).Takes("jobs.mail") {
		t.Error("a service without a route does not take everything")
	}
	cfg.Subjects = []string{"jobs.mail.>", "jobs.*.eu"}
	s := newService(t, "http://h", cfg, service.Deps{})
	for subject, want := range map[string]bool{"jobs.mail.x": true, "jobs.order.eu": true, "jobs.mail": false, "jobs.order.us": false, "jobs.order.eu.x": false} {
		if s.Takes(subject) != want {
			t.Errorf("%s: %v", subject, !want)
		}
	}
}

// TestTheReplyThatSendsBackOurSecrets is an accepted one: its conditions and its errors quote it.
func TestTheReplyThatSendsBackOurSecrets(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("-", 230) // a cut must not leave half of a secret
	for name, test := range map[string]struct {
		reply  string
		format service.Format
		change func(c *service.Config)
	}{
		"fail if":     {`{"status":"error","k":"%s %s"}`, service.FormatPlain, func(c *service.Config) { _ = c.FailIf.UnmarshalText([]byte("/status=error")) }},
		"retry if":    {`{"status":"error","k":"%s %s"}`, service.FormatPlain, func(c *service.Config) { _ = c.RetryIf.UnmarshalText([]byte("/status=error")) }},
		"results":     {`{"results":[{"status":"fail","error":"%s %s","id":"ID"}]}`, service.FormatBatch, func(*service.Config) {}},
		"a long text": {`{"results":[{"status":"fail","error":"` + long + `%s %s","id":"ID"}]}`, service.FormatBatch, func(*service.Config) {}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := callOf(jobs.Delivery{})
			reply := strings.ReplaceAll(test.reply, "ID", c.Jobs[0].ID)
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				inJSON, _ := json.Marshal(r.Header.Get("X-Api-Key")) // a text
				_, _ = fmt.Fprintf(w, reply, r.Header.Get("Authorization"), strings.Trim(string(inJSON), `"`))
			})
			cfg := formatted(test.format, func(c *service.Config) {
				c.Token, c.Headers = jobs.NewSecret("tok-123-which-is-long-enough-to-be-cut"), jobs.NewSecret("X-Api-Key:key-1<2&3/4")
				test.change(c)
			})
			s := newService(t, url, cfg, service.Deps{})
			c.Body = jobs.AppendCall(nil, c.Jobs)
			r := s.Call(t.Context(), c)
			if r.Failure != nil {
				t.Fatal(r.Failure)
			}
			if text := r.Replies[0].Error; strings.Contains(text, "tok-") || strings.Contains(text, "key-1") || !strings.Contains(text, "***") {
				t.Error(text)
			}
		})
	}
}

// TestAServiceThatSendsBackOurSecrets has an error body that quotes the request.
func TestAServiceThatSendsBackOurSecrets(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, r.Header.Get("Authorization")+" "+r.Header.Get("X-Api-Key"))
	})
	cfg := formatted(service.FormatPlain, func(c *service.Config) {
		c.Token, c.Headers = jobs.NewSecret("tok-123"), jobs.NewSecret("X-Api-Key:key-123")
	})
	s := newService(t, url, cfg, service.Deps{})
	r := s.Call(t.Context(), callOf(jobs.Delivery{}))
	if text := r.Replies[0].Error + s.State().LastError; strings.Contains(text, "tok-123") || strings.Contains(text, "key-123") || !strings.Contains(text, "***") {
		t.Error(text)
	}
}
