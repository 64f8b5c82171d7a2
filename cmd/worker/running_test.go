package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"rollcall/internal/faulttest"
)

// limit is how long anything may take before a test fails. It is far beyond what is needed: no
// test waits for it to pass.
const limit = time.Minute

// shared is a buffer that the worker writes to and the test reads.
type shared struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// running is a worker in this process, started through run.
type running struct {
	t      *testing.T
	stop   context.CancelFunc
	ended  chan int
	stdout shared
	log    shared
}

// start runs a worker on url with these services until stop is called or it ends by itself.
// Its leases and pauses are short, and its health pages on a free port.
func start(t *testing.T, url string, services []*faulttest.Recorder, env ...string) *running {
	t.Helper()
	list := make([]string, len(services))
	for i, s := range services {
		list[i] = s.Name + "=" + s.URL()
	}
	env = append([]string{
		"NATS_URL=" + url, "ROLLCALL_SERVICES=" + strings.Join(list, ","), "ROLLCALL_HTTP_ADDR=127.0.0.1:0", "ROLLCALL_LOG_LEVEL=debug",
		"ROLLCALL_BATCH_LINGER=5ms", "ROLLCALL_RETRY_MIN=20ms", "ROLLCALL_RETRY_MAX=100ms",
	}, env...)
	ctx, stop := context.WithCancel(t.Context())
	w := &running{t: t, stop: stop, ended: make(chan int, 1)}
	go func() { w.ended <- run(ctx, []string{"run"}, env, strings.NewReader(""), &w.stdout, &w.log) }()
	t.Cleanup(func() {
		stop()
		w.wait()
		if t.Failed() {
			t.Logf("log of the worker:\n%s", w.log.String())
		}
	})
	return w
}

// wait returns the exit code once the worker has ended.
func (w *running) wait() int {
	w.t.Helper()
	select {
	case code := <-w.ended:
		w.ended <- code
		return code
	case <-time.After(limit):
		w.t.Fatalf("the worker does not end:\n%s", w.log.String())
		return -1
	}
}

// logged waits for a line with this message and returns it.
func (w *running) logged(message string) map[string]any {
	w.t.Helper()
	var found map[string]any
	faulttest.Until(w.t, limit, "logged: "+message, func() bool {
		for line := range strings.Lines(w.log.String()) {
			var fields map[string]any
			if json.Unmarshal([]byte(line), &fields) == nil && fields["message"] == message {
				found = fields
				return true
			}
		}
		return false
	})
	return found
}

// page asks the health server; 0 if nobody answers.
func (w *running) page(path string) (code int, body string) {
	w.t.Helper()
	addr, ok := w.logged("serving pages")["addr"].(string)
	if !ok {
		w.t.Fatal("the log does not say where the health pages are")
	}
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// until waits until a page answers with code.
func (w *running) until(path string, code int) {
	w.t.Helper()
	var last string
	defer func() {
		if w.t.Failed() {
			w.t.Logf("%s last said: %s", path, last)
		}
	}()
	faulttest.Until(w.t, limit, path+" answers "+http.StatusText(code), func() bool {
		var got int
		got, last = w.page(path)
		return got == code
	})
}
