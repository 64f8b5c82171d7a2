package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rollcall/internal/jobs"
	"rollcall/internal/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixed is a prober that always says the same.
type fixed struct {
	alive  bool
	report web.Report
}

func (f fixed) Alive() bool        { return f.alive }
func (f fixed) Report() web.Report { return f.report }

func get(t *testing.T, p web.Prober, target, accept string) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	web.Handler(p).ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestLivezFollowsTheLoopOnly(t *testing.T) {
	t.Parallel()
	notReady := web.Report{Checks: []web.Check{{Name: "broker"}}}
	if got := get(t, fixed{alive: true, report: notReady}, "/livez", "").StatusCode; got != http.StatusOK {
		t.Errorf("a live worker without its broker: %d, want 200", got)
	}
	if got := get(t, fixed{report: web.Report{Ready: true}}, "/livez", "").StatusCode; got != http.StatusServiceUnavailable {
		t.Errorf("an ended loop: %d, want 503", got)
	}
}

func TestReadyz(t *testing.T) {
	t.Parallel()
	away := web.Report{
		Checks:   []web.Check{{Name: "started", OK: true}, {Name: "broker", Detail: "reconnecting"}},
		Services: []jobs.ServiceState{{Name: "billing", Breaker: "open", InFlight: 2, Limit: 32, LastError: "refused:\nnobody listens", LastErrorAt: time.Now().Add(-90*time.Second - 10*time.Millisecond)}},
	}
	terse := get(t, fixed{report: away}, "/readyz", "")
	if got := body(t, terse); terse.StatusCode != http.StatusServiceUnavailable || got != "not ready\n" {
		t.Errorf("got %d %q", terse.StatusCode, got)
	}
	if got := terse.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q: a proxy could keep an old answer", got)
	}
	if got := get(t, fixed{report: web.Report{Ready: true}}, "/readyz", ""); got.StatusCode != http.StatusOK || body(t, got) != "ready\n" {
		t.Errorf("ready: got %d", got.StatusCode)
	}

	verbose := get(t, fixed{report: away}, "/readyz?verbose", "*/*")
	want := "[+]started\n[-]broker reconnecting\nservice billing: breaker open, 2 of 32 in flight, last error 1 min 30 s ago: refused: nobody listens\nnot ready\n"
	if got := body(t, verbose); got != want || verbose.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("got %d %q, want 503 %q", verbose.StatusCode, got, want)
	}

	asJSON := get(t, fixed{report: away}, "/readyz?verbose", "application/json")
	var report web.Report
	if err := json.Unmarshal([]byte(body(t, asJSON)), &report); err != nil || asJSON.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("got %d: %v", asJSON.StatusCode, err)
	}
	if len(report.Checks) != 2 || report.Checks[1].Detail != "reconnecting" || report.Services[0].Breaker != "open" {
		t.Errorf("got %+v", report)
	}
}

func TestOnlyGet(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/readyz", nil)
	w := httptest.NewRecorder()
	web.Handler(fixed{}).ServeHTTP(w, r)
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d, want 405", w.Code)
	}
}

// serve runs a server until the test ends and returns its address.
func serve(t *testing.T, h http.Handler) (addr string, stop func() error) {
	t.Helper()
	s, err := web.Listen(t.Context(), web.Site{Addr: "127.0.0.1:0", Handler: h})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = func() error {
		cancel()
		select {
		case err := <-ended:
			ended <- err
			return err
		case <-time.After(30 * time.Second):
			t.Fatal("the server does not end")
			return nil
		}
	}
	t.Cleanup(func() { _ = stop() })
	return s.Addr(), stop
}

func TestServerServesAndEnds(t *testing.T) {
	t.Parallel()
	addr, stop := serve(t, web.Handler(fixed{alive: true}))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/livez", nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("got %d", resp.StatusCode)
	}
	if err := stop(); err != nil {
		t.Errorf("end: %v", err)
	}
}

func TestServerEndsThoughAClientHangs(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	addr, stop := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(entered)
		<-release
	}))
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-entered
	if err := stop(); err != nil {
		t.Errorf("end: %v", err)
	}
	close(release)
}

func TestHeadersWithoutEndAreRefused(t *testing.T) {
	t.Parallel()
	addr, _ := serve(t, web.Handler(fixed{alive: true}))
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		// The server may close before all is written.
		_, _ = io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: x\r\nX-Big: "+strings.Repeat("a", 64<<10)+"\r\n\r\n")
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %d, want 431", resp.StatusCode)
	}
}

func TestTakenPortNamesTheSetting(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	for _, site := range (web.Config{Addr: addr, PageAddr: addr}).Sites(fixed{}, http.NotFoundHandler(), shown{}) {
		if _, err = web.Listen(t.Context(), site); err == nil || !strings.Contains(err.Error(), site.Setting) {
			t.Errorf("got %v; want an error that names %s", err, site.Setting)
		}
	}
}

// TestEachPathIsServedWhereItShouldBe: with an address of their own, pages and API are there and
// nowhere else, and so are health and metrics.
func TestEachPathIsServedWhereItShouldBe(t *testing.T) {
	t.Parallel()
	forPeople := map[string]bool{
		"/": true, "/api/v1/status": true, "/assets/dashboard.css": true, "/assets/dashboard.js": true, "/assets/icon.svg": true,
		"/livez": false, "/readyz": false, "/metrics": false,
	}
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "rollcall_build_info 1\n") })
	sites := func(c web.Config) []web.Site {
		return c.Sites(fixed{alive: true, report: web.Report{Ready: true}}, metrics, shown{})
	}
	status := func(s web.Site, path string) int {
		w := httptest.NewRecorder()
		s.Handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w.Code
	}
	together, apart := sites(web.Config{Addr: ":8080"}), sites(web.Config{Addr: ":8080", PageAddr: ":8081"})
	if len(together) != 1 || len(apart) != 2 || apart[0].Addr != ":8080" || apart[1].Addr != ":8081" {
		t.Fatalf("together: %+v; apart: %+v", together, apart)
	}
	for path, people := range forPeople {
		health, page := http.StatusOK, http.StatusNotFound
		if people {
			health, page = page, health
		}
		if got := [3]int{status(together[0], path), status(apart[0], path), status(apart[1], path)}; got != [3]int{http.StatusOK, health, page} {
			t.Errorf("%s: together %d, with health and metrics %d, with the page %d", path, got[0], got[1], got[2])
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for page, ok := range map[string]bool{"": true, "127.0.0.1:8081": true, "127.0.0.1:8080": false, "8081": false} {
		err := web.Config{Addr: "127.0.0.1:8080", PageAddr: page}.Validate()
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "ROLLCALL_PAGE_ADDR") {
			t.Errorf("page address %q: %v", page, err)
		}
	}
	if err := (web.Config{Addr: "127.0.0.1:0", PageAddr: "127.0.0.1:0"}).Validate(); err != nil {
		t.Errorf("two free ports: %v", err)
	}
	for addr, ok := range map[string]bool{"127.0.0.1:8080": true, ":0": true, "[::1]:80": true, "8080": false, "localhost": false, "": false} {
		err := web.Config{Addr: addr}.Validate()
		if (err == nil) != ok {
			t.Errorf("address %q: %v", addr, err)
		}
	}
}
