package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/web"
)

// shown is a viewer that always shows the same.
type shown struct{ status web.Status }

func (s shown) Status(context.Context) web.Status { return s.status }

// site serves a status to one request, as if it came in on local.
func site(t *testing.T, s web.Status, method, target, host, local string) *http.Response {
	t.Helper()
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "rollcall_build_info 1\n") })
	ctx := t.Context()
	if local != "" {
		address, err := net.ResolveTCPAddr("tcp", local)
		if err != nil {
			t.Fatal(err)
		}
		ctx = context.WithValue(ctx, http.LocalAddrContextKey, net.Addr(address))
	}
	r := httptest.NewRequestWithContext(ctx, method, target, nil)
	r.Host = host
	w := httptest.NewRecorder()
	web.Everything(fixed{alive: true, report: web.Report{Ready: true}}, metrics, shown{s}).ServeHTTP(w, r)
	return w.Result()
}

func page(t *testing.T, s web.Status) string {
	t.Helper()
	return body(t, site(t, s, http.MethodGet, "/", "localhost", ""))
}

// busy is a status with something of everything.
func busy() web.Status {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	seconds := make([]jobs.Tally, 300)
	seconds[297] = jobs.Tally{Succeeded: 1499, Dead: 1}
	return web.Status{
		At: at,
		Replica: jobs.ReplicaState{
			Replica: "host-1", Pool: "mail", Version: "v1.2.3", Revision: "0123456789abcdef", Started: at.Add(-90 * time.Minute),
			Phase: "working", Ready: true, HeldJobs: 1234, Rate: 25, Success: 0.9996,
			Services: []jobs.ServiceState{
				{Name: "billing", Required: true, Breaker: "open", InFlight: 3, Limit: 32, LastError: "refused", LastErrorAt: at.Add(-3 * time.Second)},
				{Name: "search", Breaker: "half-open", Limit: 8, Skipped: 1200},
			},
		},
		Checks:     []web.Check{{Name: "working", OK: true}, {Name: "broker", Detail: "not connected to NATS"}},
		PoolReadAt: at.Add(-time.Second),
		Pool: &jobs.PoolState{
			At: at, Waiting: 1234567, InFlight: 42, Redelivered: 2, Stuck: 3, Oldest: at.Add(-75 * time.Second), DeadLetters: 7,
			PausedUntil: at.Add(time.Hour), Streams: []jobs.StreamState{{Name: "JOBS", Messages: 9, Bytes: 1536, MaxBytes: 1 << 20, Replicas: 3, Lagging: 1, Leader: "n1"}},
		},
		Peers: web.Peers{
			ReadAt: at.Add(-4 * time.Second), Mixed: []jobs.Difference{{
				Setting: "ROLLCALL_MAX_ATTEMPTS", Values: []jobs.DifferentValue{{Value: "20", Replicas: []string{"host-1"}}, {Value: "5", Replicas: []string{"host-2"}}},
			}},
			Replicas: []jobs.ReplicaState{{
				Replica: "host-2", Pool: "mail", Version: "(devel)", Revision: "unknown", Started: at.Add(-time.Minute), Phase: "draining", Success: 0.5, Rate: 75,
				Services: []jobs.ServiceState{{Name: "billing", Required: true, Breaker: "closed", Limit: 32, LastError: "answered 500", LastErrorAt: at}},
			}},
		},
		Seconds: seconds,
		Batches: []jobs.BatchSummary{
			{
				ID: "0190-b1", Seal: jobs.SealSize, Result: jobs.BatchCommitted, Outcome: jobs.BatchPartial, EndedAt: at.Add(-2 * time.Second), Duration: jobs.Millis(42 * time.Millisecond),
				Counts: jobs.Counts{Total: 3, Succeeded: 1, Failed: 1, Expired: 1}, TraceID: "0af7651916cd43dd8448eb211c80319c",
				Services: []jobs.ServiceReport{{Name: "billing", OK: 2, Fail: 1, Duration: jobs.Millis(40 * time.Millisecond), Error: "one failed"}},
			},
			{ID: "0190-b2", Seal: jobs.SealDrain, EndedAt: at, Counts: jobs.Counts{Total: 1}},
		},
		Settings: []web.Setting{{Name: "NATS_PASSWORD", Value: "***", Source: "file"}},
	}
}

// among returns the part of the page from one mark to another.
func among(t *testing.T, page, from, to string) string {
	t.Helper()
	_, rest, found := strings.Cut(page, from)
	part, _, ended := strings.Cut(rest, to)
	if !found || !ended {
		t.Fatalf("the page has no part from %q to %q", from, to)
	}
	return part
}

func lacks(t *testing.T, what, got string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(got, want) {
			t.Errorf("%s lacks %q", what, want)
		}
	}
}

func TestDashboardShowsThePool(t *testing.T) {
	t.Parallel()
	s := busy()
	s.Checks[1] = web.Check{Name: "broker", OK: true}
	s.Replica.Services = nil
	all := page(t, s)
	lacks(t, "the page", all, "<title>1\u202f234\u202f567 waiting · mail · Rollcall</title>",
		"<strong>Paused</strong>", "worker resume", "<strong>Replicas disagree</strong>", "ROLLCALL_MAX_ATTEMPTS: 20 (host-1), 5 (host-2)")
	pool := among(t, all, `aria-labelledby="h-pool"`, `aria-labelledby="h-replica"`)
	lacks(t, "the region of the pool", pool,
		"The whole pool", "as of <time datetime=\"2026-01-02T03:04:04Z\"", "1\u202f234\u202f567</dd>", ">42</dd>", "1 min 15 s", ">7</dd>", "worker dead ls",
		"<dt>Rate, all replicas</dt><dd>100<", "<dt>Succeeded, all replicas</dt><dd>62.4 %", // 25 jobs/s of 99.96 % and 75 of 50 %
		">host-1 <span class=\"tag\">this page</span>", ">host-2</th>", ">draining<", "development build<", "answered 500",
		"1.5 KiB <span class=\"of\">of 1.0 MiB", "3 stuck", "1 behind", "v1.2.3 (0123456789ab)")
	own := among(t, all, `aria-labelledby="h-replica"`, "</main>")
	lacks(t, "the region of the replica", own,
		"This replica", "25.0<span", "99.9 %", "1\u202f234</dd>", "1 h 30 min ago",
		`class="pill fair">partial`, `class="pill bad">not committed`, "1 expired", "billing 40 ms", "one failed", "trace 0af7651916cd43dd8448eb211c80319c", ">0190-b1</td>",
		"<code>NATS_PASSWORD</code>", ">***<", "1\u202f500 jobs ended on this replica")
	for what, region := range map[string]string{"<dt>Waiting": own, "<dt>Dead letters": own, "Last batches": pool, "per second</h3>": pool} {
		if strings.Contains(region, what) {
			t.Errorf("%s stands in the wrong region", what)
		}
	}
	if strings.Contains(all, "(devel)") {
		t.Error("the page shows (devel) as a version")
	}
}

func TestAnOpenBreakerIsAnAlertWithItsError(t *testing.T) {
	t.Parallel()
	s := busy()
	s.Checks[1] = web.Check{Name: "broker", OK: true}
	alerts := among(t, page(t, s), `id="alerts"`, `aria-labelledby="h-pool"`)
	lacks(t, "the alerts", alerts, "<strong>billing: breaker open</strong>", "2026-01-02 03:04:02 UTC</time>: refused", "<strong>search: breaker half-open</strong>", "optional")
	// An age would be read out at every refresh.
	if strings.Contains(alerts, " ago") {
		t.Errorf("the alerts change with every second: %s", alerts)
	}
	own := among(t, page(t, s), `id="services"`, "</table>")
	lacks(t, "the table of services", own, `class="pill bad">open`, `class="pill fair">half-open`, "3 <span class=\"of\">of 32", "of 8; 1\u202f200 not routed here", "refused", "3.0 s ago", "optional")
}

// TestWithoutTheBrokerThereIsOneAlertAndTheLastNumbersStay: one cause is one alert, and what
// was known stays with its time.
func TestWithoutTheBrokerThereIsOneAlertAndTheLastNumbersStay(t *testing.T) {
	t.Parallel()
	s := busy()
	s.Replica.Ready, s.Replica.Services, s.Peers.Mixed = false, nil, nil
	s.Checks = []web.Check{{Name: "working", OK: true}, {Name: "broker", Detail: "not connected"}, {Name: "consumer", OK: true}}
	s.PoolError, s.Peers.Error = "not connected to NATS", "not connected to NATS"
	s.Peers.Replicas[0].Ready, s.Peers.Replicas[0].Phase = true, "working"
	got := page(t, s)
	if n := strings.Count(got, `role="alert" data-key`); n != 1 {
		t.Errorf("%d alerts for one cause", n)
	}
	lacks(t, "the page", got, "<strong>No connection to NATS</strong>", ">not connected<", "1\u202f234\u202f567</dd>", "Last known,</strong> as of <time datetime=\"2026-01-02T03:04:04Z\"",
		"<title>No connection to NATS · mail · Rollcall</title>", `id="state" class="pill bad">not ready`,
		`>Consumer</th><td><span class="pill none">unknown`)
	if strings.Contains(got, `class="pill good">ready`) {
		t.Error("another replica is shown as ready while nobody can know")
	}
	if strings.Contains(got, `<th scope="row">Consumer</th><td><span class="pill good"`) {
		t.Error("the consumer is shown as well while nobody can know")
	}
}

func TestChartHasScaleTimesAndUnits(t *testing.T) {
	t.Parallel()
	got := page(t, busy())
	lacks(t, "the chart", got,
		"<span>400</span><span>200</span><span>0</span>", "at most 300 jobs/s", "jobs per second, times in UTC",
		"<text x=\"18.33%\" y=\"16\">03:00</text>", "<text x=\"98.33%\" y=\"16\">03:04</text>",
		"<title>2026-01-02 03:04:00 UTC, 5 s: 1\u202f499 succeeded, 1 did not</title>")
	// One failure among 1500 is a visible bar.
	if !regexp.MustCompile(`class="failed"[^>]*height="4"`).MatchString(got) {
		t.Error("a single failure has no bar")
	}
	if bars := strings.Count(got, `class="hit"`); bars != 60 {
		t.Errorf("%d bars, want 60 of 5 s", bars)
	}
}

func TestDashboardOfAReplicaThatStarts(t *testing.T) {
	t.Parallel()
	s := web.Status{
		Replica: jobs.ReplicaState{Pool: "mail", Phase: "starting", Success: -1}, PoolError: "no reply in time",
		Checks: []web.Check{{Name: "working", Detail: "connecting to the broker"}, {Name: "broker", Detail: "not yet"}},
	}
	got := page(t, s)
	lacks(t, "the page", got, "<strong>Starting</strong>", "connecting to the broker", "The broker could not be asked yet.", "No batch has ended yet", "No service yet", "replica</dt><dd>–</dd>")
	if n := strings.Count(got, `role="alert" data-key`); n != 1 {
		t.Errorf("%d alerts for one cause", n)
	}
	if strings.Contains(got, "<dt>Waiting") {
		t.Error("a backlog is shown that nobody knows")
	}
}

func TestAServiceThatIsSetUpWronglyIsNamedSo(t *testing.T) {
	t.Parallel()
	s := busy()
	s.Replica.Services[0].Misconfigured, s.Replica.Services[0].LastError = true, "answered 401 Unauthorized"
	alerts := among(t, page(t, s), `id="alerts"`, `aria-labelledby="h-pool"`)
	lacks(t, "the alerts", alerts, "<strong>billing: set up wrongly</strong>", "answered 401 Unauthorized")
}

func TestABatchWithoutAnEndSaysThatAllOfItRetries(t *testing.T) {
	t.Parallel()
	s := busy()
	s.Batches[0].Counts = jobs.Counts{Total: 3, Retrying: 3}
	lacks(t, "the page", page(t, s), `class="pill fair">all retrying`)
}

// TestTheClockIsNotReadOut: what a screen reader announces by itself must not change with every
// renewal of the page.
func TestTheClockIsNotReadOut(t *testing.T) {
	t.Parallel()
	for _, region := range regexp.MustCompile(`(?s)<(\w+)[^>]*(?:role="(?:status|alert|log|timer)"|aria-live)[^>]*>.*?</`).FindAllString(page(t, busy()), -1) {
		if strings.Contains(region, "as of ") {
			t.Errorf("announced every two seconds: %s", region)
		}
	}
}

func TestDashboardWithoutSettingsHasNoEmptyListOfThem(t *testing.T) {
	t.Parallel()
	s := busy()
	s.Settings = nil
	if got := page(t, s); strings.Contains(got, "Settings (") {
		t.Error("a list of no settings can be opened")
	}
}

// TestNoShownTextBecomesMarkup plants an attack in every text that the page shows, one after
// the other, wherever it lies in the status.
func TestNoShownTextBecomesMarkup(t *testing.T) {
	t.Parallel()
	const attack = `"'><script>alert(1)</script><img src=x onerror=alert(1)>` + "\u2028\x1b[31m\u202e" + `javascript:alert(1)`
	n := 0
	for ; ; n++ {
		s := busy()
		s.PoolError, s.Peers.Error = "error", "error"
		path := plant(reflect.ValueOf(&s).Elem(), new(n), attack)
		if path == "" {
			break
		}
		got := page(t, s)
		if strings.Contains(got, "<script>alert") || strings.Contains(got, "<img src=x") || strings.Contains(got, `"'>`) {
			t.Errorf("%s: the text became markup", path)
		}
		if strings.ContainsAny(got, "\x1b\u2028\u202e") {
			t.Errorf("%s: a control character is not made visible", path)
		}
	}
	if n < 25 {
		t.Errorf("only %d texts were tried; the walk over the status is broken", n)
	}
}

// plant puts text into the n-th string below v and returns where that was, empty if there are
// fewer.
func plant(v reflect.Value, n *int, text string) string {
	switch v.Kind() {
	case reflect.String:
		if *n--; *n < 0 {
			v.SetString(text)
			return v.Type().String()
		}
	case reflect.Pointer:
		if !v.IsNil() {
			return plant(v.Elem(), n, text)
		}
	case reflect.Slice:
		for i := range min(v.Len(), 3) {
			if path := plant(v.Index(i), n, text); path != "" {
				return fmt.Sprintf("[%d].%s", i, path)
			}
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return ""
		}
		for i := range v.NumField() {
			if path := plant(v.Field(i), n, text); path != "" {
				return v.Type().Field(i).Name + "." + path
			}
		}
	}
	return ""
}

func TestThePageNeedsNothingInlineNorForeign(t *testing.T) {
	t.Parallel()
	response := site(t, busy(), http.MethodGet, "/", "localhost", "")
	got := body(t, response)
	policy := response.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy %q lacks %s", policy, want)
		}
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"} {
		if response.Header.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, response.Header.Get(name), want)
		}
	}
	for what, pattern := range map[string]string{
		"an inline script": `<script[^>]*>[^<]`, "an inline style": `<style|\sstyle=`, "a handler": `\son[a-z]+=`,
		"a foreign address": `(?:src|href)="(?:https?:)?//`, "a reload": `http-equiv`,
	} {
		if m := regexp.MustCompile(`(?i)` + pattern).FindString(got); m != "" {
			t.Errorf("the page has %s: %q", what, m)
		}
	}
	for _, m := range regexp.MustCompile(`(?:src|href)="(/[^"]+)"`).FindAllStringSubmatch(got, -1) {
		r := site(t, busy(), http.MethodGet, html.UnescapeString(m[1]), "localhost", "")
		if r.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", m[1], r.StatusCode)
		}
	}
}

func TestLoopbackServesOnlyNamesOfLoopback(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		local, host string
		want        int
	}{
		{"127.0.0.1:8080", "localhost:8080", http.StatusOK},
		{"127.0.0.1:8080", "127.0.0.1:8080", http.StatusOK},
		{"127.0.0.1:8080", "worker.localhost", http.StatusOK},
		{"[::1]:8080", "[::1]:8080", http.StatusOK},
		{"127.0.0.1:8080", "evil.example:8080", http.StatusMisdirectedRequest},
		{"127.0.0.1:8080", "192.0.2.1:8080", http.StatusMisdirectedRequest},
		{"[::1]:8080", "localhost.evil.example", http.StatusMisdirectedRequest},
		{"172.18.0.4:8080", "worker:8080", http.StatusOK},
		{"172.18.0.4:8080", "pool.example.com", http.StatusOK},
	} {
		for _, target := range []string{"/", "/api/v1/status"} {
			if got := site(t, busy(), http.MethodGet, target, c.host, c.local).StatusCode; got != c.want {
				t.Errorf("%s asked as %s on %s: %d, want %d", target, c.host, c.local, got, c.want)
			}
		}
		if got := site(t, busy(), http.MethodGet, "/readyz", c.host, c.local).StatusCode; got != http.StatusOK {
			t.Errorf("a probe asked as %s: %d", c.host, got)
		}
	}
}

func TestSiteIsReadOnly(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/", "/api/v1/status", "/metrics", "/assets/dashboard.js", "/assets/icon.svg"} {
		if got := site(t, busy(), http.MethodPost, target, "localhost", "").StatusCode; got != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d, want 405", target, got)
		}
	}
	for _, target := range []string{"/assets/", "/assets/dashboard.html", "/assets/pool.html", "/other"} {
		if got := site(t, busy(), http.MethodGet, target, "localhost", "").StatusCode; got != http.StatusNotFound {
			t.Errorf("GET %s: %d, want 404", target, got)
		}
	}
}

func TestStatusAsJSON(t *testing.T) {
	t.Parallel()
	response := site(t, busy(), http.MethodGet, "/api/v1/status", "localhost", "")
	var got web.Status
	if err := json.Unmarshal([]byte(body(t, response)), &got); err != nil {
		t.Fatal(err)
	}
	if got.Pool == nil || got.Pool.Waiting != 1234567 || got.Replica.Services[0].Breaker != "open" || len(got.Batches) != 2 || got.Settings[0].Value != "***" {
		t.Errorf("got %+v", got)
	}
	if got := response.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
}
