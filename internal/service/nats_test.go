package service_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

// connect starts a server with this max payload and returns two connections to it: for the
// worker and for the service.
func connect(t testing.TB, maxPayload int32) (worker, svc *nats.Conn) {
	t.Helper()
	srv := faulttest.StartServer(t, server.Options{Host: "127.0.0.1", Port: -1, MaxPayload: maxPayload})
	dial := func() *nats.Conn {
		nc, err := nats.Connect("", nats.InProcessServer(srv))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	return dial(), dial()
}

// listen subscribes before it returns.
func listen(t testing.TB, nc *nats.Conn, handler nats.MsgHandler) {
	t.Helper()
	if _, err := nc.Subscribe("svc.index", handler); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// TestADeniedSubjectIsAMistakeInTheSettings, told at once: the server says so, and the service is never reached.
func TestADeniedSubjectIsAMistakeInTheSettings(t *testing.T) {
	t.Parallel()
	deny := &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"svc.index"}}}
	srv := faulttest.StartServer(t, server.Options{
		Host: "127.0.0.1", Port: -1, Users: []*server.User{{Username: "worker", Password: "w", Permissions: deny}, {Username: "svc", Password: "s"}},
	})
	conn, err := bus.Connect(t.Context(), bus.Config{URL: srv.ClientURL(), User: "worker", Password: jobs.NewSecret("w")}, "test", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	svc, err := nats.Connect(srv.ClientURL(), nats.UserInfo("svc", "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(svc.Close)
	listen(t, svc, func(m *nats.Msg) { _ = m.Respond(nil) })
	cfg := config()
	cfg.Timeout = time.Minute
	begun := time.Now()
	r := newService(t, "nats://svc.index", cfg, service.Deps{Conn: conn.NATS(), Heed: conn.HeedSubject}).Call(t.Context(), call(1))
	want{reason: jobs.ReasonRefused, wrong: true}.check(t, r)
	if r.Failure == nil || !r.Failure.Free || !strings.Contains(r.Failure.Error(), "svc.index") || time.Since(begun) > 20*time.Second {
		t.Errorf("%+v after %v; want it free, and the subject named", r.Failure, time.Since(begun))
	}
}

// TestNATSServices has what services over NATS may answer.
func TestNATSServices(t *testing.T) {
	t.Parallel()
	respond := func(header nats.Header, data string) nats.MsgHandler {
		return func(m *nats.Msg) { _ = m.RespondMsg(&nats.Msg{Header: header, Data: []byte(data)}) }
	}
	for name, test := range map[string]struct {
		handler nats.MsgHandler
		want    want
	}{
		"no responders":      {nil, want{reason: jobs.ReasonRefused}},
		"no reply":           {func(*nats.Msg) {}, want{reason: jobs.ReasonTimeout, tries: 2}},
		"not a reply":        {respond(nil, "pong"), want{reason: jobs.ReasonBadResponse, tries: 2}},
		"error 500":          {respond(nats.Header{"Nats-Service-Error-Code": {"500"}}, ""), want{reason: jobs.ReasonHTTP5xx, tries: 2, code: 500}},
		"error 422":          {respond(nats.Header{"Nats-Service-Error-Code": {"422"}, "Nats-Service-Error": {"no such order"}}, ""), want{reason: jobs.ReasonHTTP4xx, tries: 1, code: 422, final: true}},
		"error 429":          {respond(nats.Header{"nats-service-error-code": {"429"}, "retry-after": {"7"}}, ""), want{reason: jobs.ReasonThrottled, tries: 1, code: 429, after: 7 * time.Second}},
		"error without code": {respond(nats.Header{"Nats-Service-Error": {"broken"}}, ""), want{reason: jobs.ReasonHTTP5xx, tries: 2, code: 500}},
		"code of words":      {respond(nats.Header{"Nats-Service-Error-Code": {"E_FULL"}}, ""), want{reason: jobs.ReasonHTTP5xx, tries: 2, code: 500}},
		"too long":           {respond(nil, strings.Repeat(" ", 5000)), want{reason: jobs.ReasonTooLarge, tries: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			worker, svc := connect(t, 0)
			if test.handler != nil {
				listen(t, svc, test.handler)
			}
			cfg := config()
			cfg.Tries, cfg.MaxReply = 2, 4*jobs.KiB
			if test.want.reason == jobs.ReasonTimeout {
				cfg.Timeout = slow
			}
			s := newService(t, "nats://svc.index", cfg, service.Deps{Conn: worker})
			test.want.check(t, s.Call(t.Context(), call(2)))
		})
	}
}

// TestWhatNATSDoesNotSendIsNobodysFault has a broker that is away, and a connection that is closed.
func TestWhatNATSDoesNotSendIsNobodysFault(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*server.Server, *nats.Conn){
		"broker away": func(srv *server.Server, nc *nats.Conn) {
			srv.Shutdown()
			for nc.Status() != nats.RECONNECTING {
				time.Sleep(time.Millisecond)
			}
		},
		"closed": func(_ *server.Server, nc *nats.Conn) { nc.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := faulttest.StartServer(t, server.Options{Host: "127.0.0.1", Port: -1})
			nc, err := nats.Connect(srv.ClientURL(), nats.ReconnectBufSize(-1), nats.MaxReconnects(-1), nats.ReconnectWait(time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			cfg := config()
			cfg.Tries = 1
			s := newService(t, "nats://svc.index", cfg, service.Deps{Conn: nc})
			lose(srv, nc)
			for range 20 { // twice as many as open the breaker
				r := s.Call(t.Context(), call(2))
				if r.Failure == nil || r.Failure.Reason != jobs.ReasonOverload || !r.Failure.Free || r.Tries != 0 || r.Failure.NextGroup(2) != 0 {
					t.Fatalf("got %+v, want a failure that costs nobody anything", r)
				}
			}
			if got := s.State().Breaker; got != "closed" {
				t.Errorf("the breaker of the service is %s", got)
			}
		})
	}
}

// TestAStreamThatDoesNotStoreARequest has a stream in place of a service, and it is full.
func TestAStreamThatDoesNotStoreARequest(t *testing.T) {
	t.Parallel()
	srv := faulttest.StartServer(t, server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir()})
	nc := faulttest.Connect(t, srv.ClientURL())
	js := faulttest.JetStream(t, nc)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"svc.>"}, MaxMsgs: 1, Discard: jetstream.DiscardNew}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "svc.index", nil); err != nil {
		t.Fatal(err)
	}
	cfg := config()
	cfg.Tries = 1
	r := newService(t, "nats://svc.index", cfg, service.Deps{Conn: nc}).Call(t.Context(), call(2))
	want{reason: jobs.ReasonHTTP5xx, tries: 1, code: 503}.check(t, r)
	if !strings.Contains(r.Failure.Error(), "maximum messages exceeded") {
		t.Errorf("it does not say what the stream said: %v", r.Failure)
	}
	r = newService(t, "nats://svc.index", formatted(service.FormatEvent), service.Deps{Conn: nc}).Call(t.Context(), call(2))
	if r.Failure != nil || r.Replies[1].Status != jobs.StatusRetry {
		t.Errorf("in requests for single jobs: %+v", r)
	}
}

// TestAnAnswerOfItsOwnIsNotAStreams has bodies that only look like JetStream's.
func TestAnAnswerOfItsOwnIsNotAStreams(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"error":{"code":503,"err_code":10077}}`, `{"error":{"code":503},"stream":"S"}`, `{"error":{"code":"503","err_code":10077},"stream":"S"}`,
		`{"error":{},"stream":"S"}`, `{"stream":"S","seq":1}`,
	} {
		t.Run(body, func(t *testing.T) {
			t.Parallel()
			worker, svc := connect(t, 0)
			listen(t, svc, func(m *nats.Msg) { _ = m.Respond([]byte(body)) })
			if r := newService(t, "nats://svc.index", config(), service.Deps{Conn: worker}).Call(t.Context(), call(1)); r.Failure != nil || r.Replies[0].Status != jobs.StatusOK {
				t.Errorf("%+v, want that all is well", r)
			}
		})
	}
}

func TestTheFirstReplyWins(t *testing.T) {
	t.Parallel()
	worker, svc := connect(t, 0)
	listen(t, svc, func(m *nats.Msg) {
		_ = m.Respond([]byte(`{"results":[{"id":"a0","status":"fail"}]}`))
		_ = m.Respond([]byte(`{"results":[{"id":"a0","status":"ok"}]}`))
	})
	s := newService(t, "nats://svc.index", config(), service.Deps{Conn: worker})
	for range 20 {
		r := s.Call(t.Context(), call(1))
		if r.Failure != nil || r.Replies[0].Status != jobs.StatusFail || r.Tries != 1 {
			t.Fatalf("got %+v, want the first reply", r)
		}
	}
}

func TestALateReplyIsDropped(t *testing.T) {
	t.Parallel()
	worker, svc := connect(t, 0)
	var first *nats.Msg
	listen(t, svc, func(m *nats.Msg) {
		if first == nil {
			first = m
			return
		}
		_ = first.Respond([]byte(`{"results":[{"id":"a0","status":"fail"}]}`))
		_ = m.Respond([]byte(`{"results":[{"id":"a0","status":"ok"}]}`))
	})
	cfg := config()
	cfg.Timeout = slow
	s := newService(t, "nats://svc.index", cfg, service.Deps{Conn: worker})
	if r := s.Call(t.Context(), call(1)); r.Failure != nil || r.Tries < 2 || r.Replies[0].Status != jobs.StatusOK {
		t.Errorf("got %+v, want the reply to a later try", r)
	}
}

// TestAMicroServiceWorksUnchanged talks to a service made with nats.go's own micro package.
func TestAMicroServiceWorksUnchanged(t *testing.T) {
	t.Parallel()
	worker, svc := connect(t, 0)
	added, err := micro.AddService(svc, micro.Config{Name: "index", Version: "1.0.0", Endpoint: &micro.EndpointConfig{
		Subject: "svc.index",
		Handler: micro.HandlerFunc(func(r micro.Request) {
			var events []struct{ ID string }
			if err := json.Unmarshal(r.Data(), &events); err != nil {
				_ = r.Error("400", "not a batch", nil)
				return
			}
			if len(events) == 1 {
				_ = r.Error("409", "never alone", nil)
				return
			}
			_ = r.RespondJSON(map[string]any{"results": []map[string]any{
				{"id": events[0].ID, "status": "ok", "data": map[string]int{"n": 1}},
				{"id": events[1].ID, "status": "fail", "error": "no such order"},
				{"id": events[2].ID, "status": "retry", "retry_after": "2s"},
			}})
		}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = added.Stop() }()
	s := newService(t, "nats://svc.index", config(), service.Deps{Conn: worker})
	r := s.Call(t.Context(), call(3))
	if r.Failure != nil {
		t.Fatal(r.Failure)
	}
	if r.Replies[0].Status != jobs.StatusOK || string(r.Replies[0].Data) != `{"n":1}` ||
		r.Replies[1].Status != jobs.StatusFail || r.Replies[1].Error != "no such order" ||
		r.Replies[2].Status != jobs.StatusRetry || r.Replies[2].RetryAfter != 2*time.Second {
		t.Errorf("got %+v", r.Replies)
	}
	want{reason: jobs.ReasonHTTP4xx, tries: 1, code: 409, final: true}.check(t, s.Call(t.Context(), call(1)))
	if got := added.Info().Endpoints[0].Subject; got != "svc.index" {
		t.Errorf("subject %s", got)
	}
}

// recorder is a NATS service that notes the keys and the job ids of every request and
// answers with what reply returns.
type recorder struct {
	mu    sync.Mutex
	calls map[string][]string
	reply func(ids []string) *nats.Msg
}

func (r *recorder) handle(m *nats.Msg) {
	var events []struct{ ID string }
	_ = json.Unmarshal(m.Data, &events)
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.ID
	}
	r.mu.Lock()
	r.calls[m.Header.Get("Idempotency-Key")] = ids
	r.mu.Unlock()
	_ = m.RespondMsg(r.reply(ids))
}

func TestACallOverTheMaxPayloadIsSplit(t *testing.T) {
	t.Parallel()
	worker, svc := connect(t, 2048)
	rec := &recorder{calls: map[string][]string{}, reply: func(ids []string) *nats.Msg {
		if slices.Contains(ids, "a19") {
			return &nats.Msg{Header: nats.Header{"Nats-Service-Error-Code": {"503"}}}
		}
		return &nats.Msg{}
	}}
	listen(t, svc, rec.handle)
	cfg := config()
	cfg.Tries = 1
	s := newService(t, "nats://svc.index", cfg, service.Deps{Conn: worker})
	c := call(20)
	r := s.Call(t.Context(), c)
	if r.Failure != nil || r.Tries < 4 || r.Tries != len(rec.calls) {
		t.Fatalf("got %+v with %d requests", r, len(rec.calls))
	}
	var seen []string
	for key, ids := range rec.calls {
		if want := `"` + c.Key + ":"; !strings.HasPrefix(key, want) {
			t.Errorf("key %s of a part does not begin with %s", key, want)
		}
		seen = append(seen, ids...)
		for i := range ids {
			n := slices.IndexFunc(c.Jobs, func(j *jobs.Job) bool { return j.ID == ids[i] })
			want := jobs.StatusOK
			if slices.Contains(ids, "a19") {
				want = jobs.StatusRetry
			}
			if r.Replies[n].Status != want {
				t.Errorf("job %s: got %v, want %v", ids[i], r.Replies[n], want)
			}
		}
	}
	slices.Sort(seen)
	if len(seen) != 20 || len(slices.Compact(seen)) != 20 {
		t.Errorf("the parts held %d jobs: %v", len(seen), seen)
	}
	first := maps.Clone(rec.calls)
	s.Call(t.Context(), c)
	if len(rec.calls) != len(first) {
		t.Error("the same call was split into parts with other keys")
	}
}

func TestAPartThatTheBreakerHoldsBackWasNotSent(t *testing.T) {
	t.Parallel()
	worker, svc := connect(t, 2048)
	rec := &recorder{calls: map[string][]string{}, reply: func(ids []string) *nats.Msg {
		if slices.Contains(ids, "a0") {
			return &nats.Msg{}
		}
		return &nats.Msg{Header: nats.Header{"Nats-Service-Error-Code": {"503"}}}
	}}
	listen(t, svc, rec.handle)
	cfg := config()
	cfg.Tries, cfg.Concurrency = 1, 1 // so that three tries suffice to open the breaker
	c := call(40)
	r := newService(t, "nats://svc.index", cfg, service.Deps{Conn: worker}).Call(t.Context(), c)
	if r.Failure != nil || r.Tries != 3 || len(rec.calls) != 3 {
		t.Fatalf("got %+v with %d requests, want three tries", r, len(rec.calls))
	}
	for i, j := range c.Jobs {
		sent := false
		for _, ids := range rec.calls {
			sent = sent || slices.Contains(ids, j.ID)
		}
		if r.Replies[i].Unsent == sent {
			t.Errorf("job %s: sent %t, but the reply is %+v", j.ID, sent, r.Replies[i])
		}
	}
}

// padded returns a call for n jobs of a body that is so many bytes long, and more.
func padded(n, size int) *jobs.Call {
	c := call(n)
	for _, j := range c.Jobs {
		j.Body = fmt.Appendf(nil, `{"pad":%q}`, strings.Repeat("x", size))
	}
	c.Body = jobs.AppendCall(nil, c.Jobs)
	return c
}

// TestAJobThatTheServiceRefusesFailsAlone: no more so because its batch comes in parts.
func TestAJobThatTheServiceRefusesFailsAlone(t *testing.T) {
	t.Parallel()
	for name, poison := range map[string][]string{"one": {"a3"}, "in all parts": {"a0", "a3", "a4", "a31"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			worker, svc := connect(t, 16<<10)
			rec := &recorder{calls: map[string][]string{}, reply: func(ids []string) *nats.Msg {
				if slices.ContainsFunc(ids, func(id string) bool { return slices.Contains(poison, id) }) {
					return &nats.Msg{Header: nats.Header{"Nats-Service-Error-Code": {"422"}, "Nats-Service-Error": {"no such order"}}}
				}
				return &nats.Msg{}
			}}
			listen(t, svc, rec.handle)
			c := padded(32, 600)
			r := newService(t, "nats://svc.index", config(), service.Deps{Conn: worker}).Call(t.Context(), c)
			if r.Failure != nil || r.Tries != len(rec.calls) || r.Repeats != 0 {
				t.Fatalf("got %+v with %d keys: want one try for each", r, len(rec.calls))
			}
			for i, j := range c.Jobs {
				want := jobs.StatusOK
				if slices.Contains(poison, j.ID) {
					want = jobs.StatusFail
				}
				if got := r.Replies[i]; got.Status != want || want == jobs.StatusFail && !strings.Contains(got.Error, "no such order") {
					t.Errorf("job %s: got %+v, want %v", j.ID, got, want)
				}
			}
		})
	}
}

// TestEachPartThatFailsIsReadAlone has parts that fail for different reasons: what one of them
// costs its jobs is nothing to those of the other.
func TestEachPartThatFailsIsReadAlone(t *testing.T) {
	t.Parallel()
	for _, codes := range [][2]string{{"500", "429"}, {"429", "500"}, {"408", "500"}} {
		t.Run(strings.Join(codes[:], " and "), func(t *testing.T) {
			t.Parallel()
			worker, svc := connect(t, 16<<10)
			rec := &recorder{calls: map[string][]string{}, reply: func(ids []string) *nats.Msg {
				code := codes[1]
				if slices.Contains(ids, "a0") {
					code = codes[0]
				}
				return &nats.Msg{Header: nats.Header{"Nats-Service-Error-Code": {code}}}
			}}
			listen(t, svc, rec.handle)
			cfg := config()
			cfg.Tries = 1
			r := newService(t, "nats://svc.index", cfg, service.Deps{Conn: worker}).Call(t.Context(), padded(32, 600))
			if r.Failure != nil || r.Tries != 2 {
				t.Fatalf("got %+v, want replies", r)
			}
			for i, got := range r.Replies {
				code := codes[i/16]
				wantGroup := 8
				if code == "429" {
					wantGroup = 0
				}
				if got.Status != jobs.StatusRetry || got.Free != (code == "429") || got.Group != wantGroup || !strings.Contains(got.Error, code) {
					t.Errorf("job %d, whose part was answered %s: got %+v", i, code, got)
				}
			}
		})
	}
}

func TestAJobOverTheMaxPayloadIsFinal(t *testing.T) {
	t.Parallel()
	worker, svc := connect(t, 2048)
	rec := &recorder{calls: map[string][]string{}, reply: func([]string) *nats.Msg { return &nats.Msg{} }}
	listen(t, svc, rec.handle)
	s := newService(t, "nats://svc.index", config(), service.Deps{Conn: worker})
	c := call(2)
	c.Jobs[1].Body = fmt.Appendf(nil, `{"pad":%q}`, strings.Repeat("x", 4000))
	c.Body = jobs.AppendCall(nil, c.Jobs)
	r := s.Call(t.Context(), c)
	if r.Failure != nil || r.Replies[0].Status != jobs.StatusOK || r.Replies[1].Status != jobs.StatusFail || !strings.Contains(r.Replies[1].Error, "max_payload") {
		t.Errorf("got %+v", r)
	}
	c.Jobs, c.Body = c.Jobs[1:], jobs.AppendCall(nil, c.Jobs[1:])
	want{reason: jobs.ReasonTooLarge, code: http.StatusRequestEntityTooLarge, final: true}.check(t, s.Call(t.Context(), c))
}

// TestAJobThatJustFitsTheMaxPayload: the longest message that a job comes in is the longest that the
// server takes.
func TestAJobThatJustFitsTheMaxPayload(t *testing.T) {
	t.Parallel()
	const maxPayload = 4096
	for _, format := range []service.Format{service.FormatBatch, service.FormatEvent, service.FormatPlain} {
		t.Run(format.String(), func(t *testing.T) {
			t.Parallel()
			worker, svc := connect(t, maxPayload)
			longest := 0
			listen(t, svc, func(m *nats.Msg) {
				longest = max(longest, m.Size()-len(m.Subject)-len(m.Reply))
				_ = m.Respond(nil)
			})
			cfg := formatted(format, func(c *service.Config) {
				c.Secret, c.Headers = jobs.NewSecret(secretA+","+secretB), jobs.NewSecret("X-Key:abc")
			})
			s := newService(t, "nats://svc.index", cfg, service.Deps{Conn: worker})
			c := call(1)
			c.Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
			for n := 2500; ; n++ {
				c.Jobs[0].Body = fmt.Appendf(nil, "%q", strings.Repeat("x", n))
				c.Body = jobs.AppendCall(c.Body[:0], c.Jobs)
				r := s.Call(t.Context(), c)
				if r.Failure == nil && r.Replies[0].Status == jobs.StatusOK {
					continue
				}
				// It is held back before it is sent: never refused by the server.
				if r.Tries != 0 || r.Failure != nil && r.Failure.Reason != jobs.ReasonTooLarge || longest != maxPayload {
					t.Errorf("the longest message had %d bytes; then %+v", longest, r)
				}
				return
			}
		})
	}
}
