package service_test

import (
	"compress/gzip"
	"context"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

// want is what a call to a faulty service must come to.
type want struct {
	reason string
	tries  int
	code   int
	final  bool
	after  time.Duration
	// wrong means that no job is at fault: the breaker is open, and that is how long to wait.
	wrong bool
}

// check compares a result with what it must be.
func (w want) check(t *testing.T, r jobs.CallResult) {
	t.Helper()
	if r.Failure == nil {
		t.Fatalf("the call succeeded: %+v", r)
	}
	got := want{r.Failure.Reason, r.Tries, r.Failure.Code, r.Failure.Final, r.Failure.RetryAfter, r.Failure.Misconfigured}
	if got.wrong {
		if got.after < 3*time.Second || got.after > 7*time.Second || !r.Failure.Free {
			t.Errorf("free %v, to come back after %v: want free, and after the breaker's delay", r.Failure.Free, got.after)
		}
		got.after = 0
	}
	if got != w {
		t.Errorf("got %+v, want %+v\nerror: %v", got, w, r.Failure)
	}
	if r.Replies != nil || r.Failure.Err == nil {
		t.Errorf("got replies %v and error %v with a failure", r.Replies, r.Failure.Err)
	}
}

const okHead = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

// slow is a time-out for services that never answer; it is waited for to the end.
const slow = 250 * time.Millisecond

// TestFaultsOfTheWire has what goes wrong below and inside the reply.
func TestFaultsOfTheWire(t *testing.T) {
	t.Parallel()
	timeout := want{reason: jobs.ReasonTimeout, tries: 2}
	broken := want{reason: jobs.ReasonReset, tries: 2}
	bad := want{reason: jobs.ReasonBadResponse, tries: 2}
	large := want{reason: jobs.ReasonTooLarge, tries: 2}
	for name, test := range map[string]struct {
		handle func(*net.TCPConn)
		want   want
	}{
		"20 accepts and never answers":   {hang, timeout},
		"20 header and then nothing":     {then(okHead+"Content-Length: 50\r\n\r\n{", hang), timeout},
		"21 reset before the reply":      {reset(""), broken},
		"21 closed before the reply":     {say(""), broken},
		"21 closed in the reply":         {say(okHead + "Content-Length: 50\r\n\r\n{\"results\":["), broken},
		"21 closed in a chunk":           {say(okHead + "Transfer-Encoding: chunked\r\n\r\n40\r\n{\"res"), broken},
		"25 200 MB announced":            {then(okHead+"Content-Length: 200000000\r\n\r\n{", hang), large},
		"25 shorter than announced":      {say(okHead + "Content-Length: 14\r\n\r\n{\"results\":[]"), broken},
		"25 longer than announced":       {say(okHead + "Content-Length: 5\r\n\r\n{\"results\":[]}"), bad},
		"25 length is not a number":      {say(okHead + "Content-Length: many\r\n\r\n{}"), bad},
		"closed after its headers":       {say(okHead + "\r\n"), broken},
		"26 slow header, byte by byte":   {drip(okHead + "X-Long: " + strings.Repeat("x", 500)), timeout},
		"26 slow body, byte by byte":     {drip(okHead + "Content-Length: 500\r\n\r\n" + strings.Repeat(" ", 500)), timeout},
		"26 header of 1 MB":              {then(okHead+"X-Huge: "+strings.Repeat("x", 1<<20)+"\r\n\r\n", hang), bad},
		"27 not HTTP at all":             {say("SSH-2.0-OpenSSH_9.9\r\n"), bad},
		"27 invalid JSON":                {answer(`{"results":[`), bad},
		"27 HTML":                        {answer("<!doctype html><title>login</title>"), bad},
		"27 two dialects":                {answer(`{"results":[],"statuses":[]}`), bad},
		"27 status of the wrong type":    {answer(`{"results":[{"id":"a0","status":1}]}`), bad},
		"27 unknown status":              {answer(`{"results":[{"id":"a0","status":"done"}]}`), bad},
		"27 unknown job":                 {answer(`{"results":[{"id":"zz","status":"ok"}]}`), bad},
		"27 a job twice":                 {answer(`{"results":[{"id":"a0","status":"ok"},{"id":"a0","status":"fail"}]}`), bad},
		"27 more entries than jobs":      {answer(`{"results":[{"id":"a0"},{"id":"a1"},{"id":"a2"}]}`), bad},
		"27 invalid UTF-8":               {answer("{\"results\":[{\"id\":\"a0\",\"status\":\"fail\",\"error\":\"\xff\"}]}"), bad},
		"27 switching protocols":         {say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), want{reason: jobs.ReasonBadResponse, tries: 2, code: 101}},
		"27 switched, and silent":        {then("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", hang), want{reason: jobs.ReasonBadResponse, tries: 2, code: 101}},
		"28 gzip, closed behind headers": {say(okHead + "Content-Encoding: gzip\r\n\r\n"), broken},
		"28 gzip, closed, HTTP/1.0":      {say("HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\n\r\n"), broken},
		"28 gzip, chunks without a byte": {say(okHead + "Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n0\r\n\r\n"), broken},
		"28 gzip that is cut off":        {say(okHead + "Content-Encoding: gzip\r\n\r\n" + gzipped("{}")[:15]), broken},
		"28 gzip announced and not sent": {say(okHead + "Content-Encoding: gzip\r\nContent-Length: 14\r\n\r\n{\"results\":[]}"), bad},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config()
			cfg.Tries = 2
			if test.want.reason == jobs.ReasonTimeout {
				cfg.Timeout = slow
			}
			s := newService(t, raw(t, test.handle).url, cfg, service.Deps{})
			result := s.Call(t.Context(), call(2))
			test.want.check(t, result)
			if limit := time.Duration(cfg.Tries)*2*cfg.Timeout + time.Second; result.Duration > limit {
				t.Errorf("took %v, the promised limit is %v", result.Duration, limit)
			}
		})
	}
}

// TestAnEmptyReplyMeansThatAllIsDone has the ways to say nothing, some without a length.
func TestAnEmptyReplyMeansThatAllIsDone(t *testing.T) {
	t.Parallel()
	for name, reply := range map[string]string{
		"a length":              okHead + "Content-Length: 0\r\n\r\n",
		"chunks that end":       okHead + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"204":                   "HTTP/1.1 204 No Content\r\n\r\n",
		"205":                   "HTTP/1.1 205 Reset Content\r\n\r\n",
		"gzip of nothing":       okHead + "Content-Encoding: gzip\r\n\r\n" + gzipped(""),
		"gzip with a length":    okHead + "Content-Encoding: gzip\r\nContent-Length: " + strconv.Itoa(len(gzipped(""))) + "\r\n\r\n" + gzipped(""),
		"gzip of length 0":      okHead + "Content-Encoding: gzip\r\nContent-Length: 0\r\n\r\n",
		"gzip, 204":             "HTTP/1.1 204 No Content\r\nContent-Encoding: gzip\r\n\r\n",
		"HTTP/1.0, as Python's": "HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6 Python/3.12.3\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config()
			cfg.Tries = 1
			r := newService(t, raw(t, say(reply)).url, cfg, service.Deps{}).Call(t.Context(), call(2))
			if r.Failure != nil || r.Replies[0].Status != ok || r.Replies[1].Status != ok {
				t.Errorf("%+v", r)
			}
		})
	}
}

func gzipped(text string) string {
	var b strings.Builder
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return b.String()
}

// TestAReasonIsTheSameEachTime has what goes wrong be said in words, without the port of our side.
func TestAReasonIsTheSameEachTime(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		handle func(*net.TCPConn)
		want   string
	}{
		"reset":             {reset(""), "read: connection reset by peer"},
		"closed":            {say(""), "the connection was closed before the reply"},
		"a status unheard":  {say("HTTP/1.1 600 X\r\nContent-Length: 0\r\n\r\n"), "answered 600"},
		"the same, in text": {say("HTTP/1.1 600 X\r\nContent-Length: 2\r\n\r\nno"), "answered 600: no"},
		"a status":          {say("HTTP/1.1 503 X\r\nContent-Length: 2\r\n\r\nno"), "answered 503 Service Unavailable: no"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config()
			cfg.Tries = 1
			url := raw(t, test.handle).url
			r := newService(t, url, cfg, service.Deps{}).Call(t.Context(), call(1))
			host := strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/")
			if r.Failure == nil || strings.TrimPrefix(r.Failure.Err.Error(), "call "+host+": ") != test.want {
				t.Errorf("got %v, want %q", r.Failure, test.want)
			}
		})
	}
}

// then writes text and goes on with next.
func then(text string, next func(*net.TCPConn)) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		say(text)(c)
		next(c)
	}
}

// drip writes a byte every 5 ms.
func drip(text string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for i := range len(text) {
			if _, err := c.Write([]byte{text[i]}); err != nil {
				return
			}
			<-tick.C
		}
	}
}

// answer sends a 200 with this body.
func answer(body string) func(*net.TCPConn) {
	return say(okHead + "Connection: close\r\n\r\n" + body)
}

func TestAHangingConnectionIsNotKept(t *testing.T) {
	t.Parallel()
	srv := raw(t, hang)
	cfg := config()
	cfg.Timeout, cfg.Tries = slow, 2
	want{reason: jobs.ReasonTimeout, tries: 2}.check(t, newService(t, srv.url, cfg, service.Deps{}).Call(t.Context(), call(1)))
	for range 2 {
		<-srv.ended // the client has closed it: hang returns no earlier
	}
}

func TestResetInTheReply(t *testing.T) {
	t.Parallel()
	// The reset may overtake the header or not: it must come to the same.
	var resets atomic.Int32
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		_ = http.NewResponseController(w).Flush()
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			resets.Add(1)
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}
	})
	want{reason: jobs.ReasonReset, tries: 3}.check(t, newService(t, url, config(), service.Deps{}).Call(t.Context(), call(1)))
	if resets.Load() != 3 {
		t.Errorf("got %d connections, want 3", resets.Load())
	}
}

func TestRetryReachesARecoveredServiceWithTheSameKey(t *testing.T) {
	t.Parallel()
	keys := make(chan string, 3)
	var n atomic.Int32
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		keys <- r.Header.Get("Idempotency-Key")
		if n.Add(1) < 3 {
			panic(http.ErrAbortHandler)
		}
	})
	c := call(2)
	result := newService(t, url, config(), service.Deps{}).Call(t.Context(), c)
	if result.Failure != nil || result.Tries != 3 {
		t.Fatalf("got %+v, want success at the third try", result)
	}
	for range 3 {
		if got := <-keys; got != `"`+c.Key+`"` {
			t.Errorf("idempotency key %s, want the quoted %s", got, c.Key)
		}
	}
}

func TestEndlessRepliesAreCutOff(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		head, text string
		want       want
	}{
		"endless body":   {okHead + "\r\n", strings.Repeat(" ", 8<<10), want{reason: jobs.ReasonTooLarge, tries: 1}},
		"endless chunks": {okHead + "Transfer-Encoding: chunked\r\n\r\n", "2000\r\n" + strings.Repeat(" ", 0x2000) + "\r\n", want{reason: jobs.ReasonTooLarge, tries: 1}},
		"endless 1xx":    {"", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 100), want{reason: jobs.ReasonBadResponse, tries: 1}},
		"endless header": {okHead, strings.Repeat("X: y\r\n", 1000), want{reason: jobs.ReasonBadResponse, tries: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wrote := make(chan int, 1)
			cfg := config()
			cfg.Tries = 1
			srv := raw(t, forever(test.head, test.text, func(n int) { wrote <- n }))
			test.want.check(t, newService(t, srv.url, cfg, service.Deps{}).Call(t.Context(), call(1)))
			// What the kernel buffers on loopback comes on top of the cap of 1 MiB.
			if n := <-wrote; n > 24<<20 {
				t.Errorf("the service got rid of %d bytes", n)
			}
		})
	}
}

// TestServerErrors has statuses that are no success, without a pause asked for.
func TestServerErrors(t *testing.T) {
	t.Parallel()
	for code, w := range map[int]want{
		500: {reason: jobs.ReasonHTTP5xx, tries: 3, code: 500},
		502: {reason: jobs.ReasonHTTP5xx, tries: 3, code: 502},
		503: {reason: jobs.ReasonHTTP5xx, tries: 3, code: 503},
		504: {reason: jobs.ReasonHTTP5xx, tries: 3, code: 504},
		408: {reason: jobs.ReasonHTTP4xx, tries: 3, code: 408},
		425: {reason: jobs.ReasonHTTP4xx, tries: 3, code: 425},
		429: {reason: jobs.ReasonThrottled, tries: 1, code: 429},
		400: {reason: jobs.ReasonHTTP4xx, tries: 1, code: 400, final: true},
		404: {reason: jobs.ReasonHTTP4xx, tries: 1, code: 404, wrong: true},
		401: {reason: jobs.ReasonHTTP4xx, tries: 1, code: 401, wrong: true},
		403: {reason: jobs.ReasonHTTP4xx, tries: 1, code: 403, wrong: true},
		405: {reason: jobs.ReasonHTTP4xx, tries: 1, code: 405, wrong: true},
		407: {reason: jobs.ReasonHTTP4xx, tries: 1, code: 407, wrong: true},
		410: {reason: jobs.ReasonHTTP4xx, tries: 1, code: 410, wrong: true},
		413: {reason: jobs.ReasonHTTP4xx, tries: 1, code: 413, final: true},
		422: {reason: jobs.ReasonHTTP4xx, tries: 1, code: 422, final: true},
	} {
		t.Run(http.StatusText(code), func(t *testing.T) {
			t.Parallel()
			url := serve(t, func(rw http.ResponseWriter, _ *http.Request) {
				rw.WriteHeader(code)
				_, _ = rw.Write([]byte("{\"error\":\"field\x1b[31m\n customer_id is required\"}" + strings.Repeat(" x", 3000)))
			})
			result := newService(t, url, config(), service.Deps{}).Call(t.Context(), call(2))
			w.check(t, result)
			if text := result.Failure.Err.Error(); !strings.Contains(text, `{"error":"field [31m customer_id is required"} x x`) || len(text) > 350 {
				t.Errorf("%d bytes: %s", len(text), text)
			}
		})
	}
}

// TestAPortThatWantsTLSIsAMistakeInTheSettings has the words of Go and nginx for a request without TLS.
func TestAPortThatWantsTLSIsAMistakeInTheSettings(t *testing.T) {
	t.Parallel()
	const (
		byGo    = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
		byNginx = "HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nConnection: close\r\n\r\n<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>\r\n"
		other   = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nno such customer"
	)
	listed := config()
	if err := listed.Fail.UnmarshalText([]byte("400")); err != nil {
		t.Fatal(err)
	}
	wrong, ofTheJob := want{reason: jobs.ReasonHTTP4xx, tries: 1, code: 400, wrong: true}, want{reason: jobs.ReasonHTTP4xx, tries: 1, code: 400, final: true}
	for name, test := range map[string]struct {
		reply string
		cfg   service.Config
		want  want
	}{
		"Go":                     {byGo, config(), wrong},
		"nginx":                  {byNginx, config(), wrong},
		"another 400":            {other, config(), ofTheJob},
		"a 400 that is in _FAIL": {byGo, listed, ofTheJob},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newService(t, raw(t, say(test.reply)).url, test.cfg, service.Deps{}).Call(t.Context(), call(2))
			test.want.check(t, r)
			if test.want.wrong && !strings.Contains(r.Failure.Error(), "https://") {
				t.Error(r.Failure)
			}
		})
	}
}

// TestAStatusWhoseBodyNeverEnds: the status has said all that is to be known.
func TestAStatusWhoseBodyNeverEnds(t *testing.T) {
	t.Parallel()
	for head, w := range map[string]want{
		"HTTP/1.1 422 No\r\n":                                   {reason: jobs.ReasonHTTP4xx, tries: 1, code: 422, final: true},
		"HTTP/1.1 307 There\r\nLocation: /x\r\n":                {reason: jobs.ReasonRedirect, tries: 1, code: 307, wrong: true},
		"HTTP/1.1 503 Later\r\nRetry-After: 30\r\n":             {reason: jobs.ReasonHTTP5xx, tries: 1, code: 503, after: 30 * time.Second},
		"HTTP/1.1 422 No\r\nContent-Encoding: gzip\r\n":         {reason: jobs.ReasonHTTP4xx, tries: 1, code: 422, final: true},
		"HTTP/1.1 429 Slower\r\nTransfer-Encoding: chunked\r\n": {reason: jobs.ReasonThrottled, tries: 1, code: 429},
	} {
		t.Run(head, func(t *testing.T) {
			t.Parallel()
			cfg := config()
			cfg.Tries, cfg.Timeout = 2, 3*time.Second
			s := newService(t, raw(t, then(head+"\r\n", hang)).url, cfg, service.Deps{})
			r := s.Call(t.Context(), call(2))
			w.check(t, r)
			if r.Duration >= cfg.Timeout {
				t.Errorf("waited %v for a body that nobody reads", r.Duration)
			}
		})
	}
}

// TestRetryAfter has pauses that a service asks for, also by dates of a wrong clock.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	const limit = 40 * time.Second
	for name, test := range map[string]struct {
		value string
		tries int
		after time.Duration
	}{
		"seconds":         {"7", 1, 7 * time.Second},
		"zero":            {"0", 3, 0},
		"negative":        {"-5", 3, 0},
		"fraction":        {"1.5", 3, 0},
		"garbage":         {"soon", 3, 0},
		"absurd":          {"1000000000", 1, limit},
		"over every int":  {"99999999999999999999999", 1, limit},
		"a past date":     {"Sun, 06 Nov 1994 08:49:37 GMT", 3, 0},
		"an hour ahead":   {time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), 1, limit},
		"a year too late": {time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat), 1, limit},
	} {
		for code, reason := range map[int]string{429: jobs.ReasonThrottled, 503: jobs.ReasonHTTP5xx} {
			t.Run(name+" with "+http.StatusText(code), func(t *testing.T) {
				t.Parallel()
				url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Retry-After", test.value)
					w.WriteHeader(code)
				})
				s := newService(t, url, config(), service.Deps{RetryMax: limit})
				tries := test.tries
				if code == http.StatusTooManyRequests {
					tries = 1 // first the pace comes down
				}
				want{reason: reason, tries: tries, code: code, after: test.after}.check(t, s.Call(t.Context(), call(1)))
			})
		}
	}
}

// TestRetryAfterGoesByTheClockOfTheService: a date is of the clock that wrote it.
func TestRetryAfterGoesByTheClockOfTheService(t *testing.T) {
	t.Parallel()
	for _, wrong := range []time.Duration{5 * time.Minute, -5 * time.Minute} {
		there := time.Now().Add(wrong).UTC()
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", there.Format(http.TimeFormat))
			w.Header().Set("Retry-After", there.Add(30*time.Second).Format(http.TimeFormat))
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		s := newService(t, url, config(), service.Deps{RetryMax: time.Hour})
		want{reason: jobs.ReasonHTTP5xx, tries: 1, code: http.StatusServiceUnavailable, after: 30 * time.Second}.check(t, s.Call(t.Context(), call(1)))
	}
}

func TestAShortPauseIsWaitedForInTheCall(t *testing.T) {
	t.Parallel()
	var first, second time.Time
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if first.IsZero() {
			first = time.Now()
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		second = time.Now()
	})
	result := newService(t, url, config(), service.Deps{}).Call(t.Context(), call(1))
	if result.Failure != nil || result.Tries != 2 || second.Sub(first) < time.Second {
		t.Errorf("got %+v after %v, want success at the second try a second later", result, second.Sub(first))
	}
}

// TestRedirectsAreNeverFollowed: neither body nor keys reach the second host.
func TestRedirectsAreNeverFollowed(t *testing.T) {
	t.Parallel()
	for _, code := range []int{301, 302, 303, 307, 308} {
		t.Run(http.StatusText(code), func(t *testing.T) {
			t.Parallel()
			var reached atomic.Int32
			second := serve(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
			first := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, second, code) })
			cfg := config()
			cfg.Token = jobs.NewSecret("token")
			want{reason: jobs.ReasonRedirect, tries: 1, code: code, wrong: true}.check(t, newService(t, first, cfg, service.Deps{}).Call(t.Context(), call(2)))
			if reached.Load() != 0 {
				t.Error("the second host was called")
			}
		})
	}
}

func TestCookiesAreNotKept(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Cookie") != "" {
			t.Error("a cookie came back")
		}
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "x"})
	})
	s := newService(t, url, config(), service.Deps{})
	for range 2 {
		if r := s.Call(context.Background(), call(1)); r.Failure != nil {
			t.Fatal(r.Failure)
		}
	}
}
