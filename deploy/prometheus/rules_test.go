// Package prometheus_test holds rules, dashboard and runbook together with what a running
// worker really measures.
package prometheus_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"rollcall/docs/runbook"
	"rollcall/internal/app"
	"rollcall/internal/faulttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit bounds every wait; only a failing test waits that long.
const limit = time.Minute

const (
	rulesFile     = "rules.yml"
	dashboardFile = "../grafana/dashboards/rollcall.json"
	// runbookURL is where the links of the alerts lead, until somebody puts their own address there.
	runbookURL = "https://rollcall.example/docs/runbook/"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func found(text, pattern string) []string {
	names := map[string]bool{}
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		names[m[1]] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// exposition runs a worker on a broker of its own until a job has ended, and returns what it
// then says on /metrics.
func exposition(t *testing.T) string {
	t.Helper()
	broker := faulttest.StartServer(t, server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir()})
	// With limits, so that there is something to measure against.
	limits := server.JetStreamAccountLimits{MaxMemory: -1, MaxStore: 1 << 30, MaxStreams: -1, MaxConsumers: -1}
	if err := broker.GlobalAccount().UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{"": limits}); err != nil {
		t.Fatal(err)
	}
	service := faulttest.StartRecorder(t, "billing")
	addr := fmt.Sprintf("127.0.0.1:%d", faulttest.FreePort(t))
	cfg, err := app.LoadRun([]string{"NATS_URL=" + broker.ClientURL(), "ROLLCALL_STREAM_BYTES=100MiB", "ROLLCALL_SERVICES=billing=" + service.URL(), "ROLLCALL_HTTP_ADDR=" + addr})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx, cfg, zerolog.Nop(), app.Options{Version: "v1.2.3"}) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	faulttest.Until(t, limit, "the worker is ready", func() bool { _, code := get(t, addr, "/readyz"); return code == http.StatusOK })
	js := faulttest.JetStream(t, faulttest.Connect(t, broker.ClientURL()))
	faulttest.NewLoad(t, js, "JOBS", "jobs.test").Publish(3, limit)
	var page string
	faulttest.Until(t, limit, "the jobs are counted", func() bool {
		page, _ = get(t, addr, "/metrics")
		return strings.Contains(page, `rollcall_jobs_finished_total{outcome="succeeded",pool="default"} 3`)
	})
	return page
}

func get(t *testing.T, addr, path string) (body string, code int) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		return "", 0
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return "", 0
	}
	return string(text), response.StatusCode
}

func TestEveryMetricInUseIsOneThatAWorkerHas(t *testing.T) {
	t.Parallel()
	page := exposition(t)
	has := map[string]bool{}
	for _, name := range found(page, `(?m)^([a-z_]+)[{ ]`) {
		has[name] = true
	}
	for _, file := range []string{rulesFile, dashboardFile} {
		text := read(t, file)
		used := found(text, `\b((?:rollcall|process|go)_[a-z_]+)\b`)
		if len(used) < 15 {
			t.Errorf("%s: only %d metrics were found in it", file, len(used))
		}
		for _, name := range used {
			if !has[name] {
				t.Errorf("%s uses %s, which a running worker does not have", file, name)
			}
		}
	}
	if promtool, err := exec.LookPath("promtool"); err == nil {
		cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
		cmd.Stdin = strings.NewReader(page)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("promtool check metrics: %v\n%s", err, out)
		}
	}
}

func TestEveryRecordedSeriesInUseIsRecorded(t *testing.T) {
	t.Parallel()
	rules := read(t, rulesFile)
	recorded := found(rules, `record: (\S+)`)
	for _, file := range []string{rulesFile, dashboardFile} {
		for _, name := range found(read(t, file), `\b(rollcall:[a-z0-9_:]+)`) {
			if !slices.Contains(recorded, name) {
				t.Errorf("%s uses %s, which nothing records", file, name)
			}
		}
	}
}

func TestEveryAlertHasATestAndAPageThatHelps(t *testing.T) {
	t.Parallel()
	rules, tests := read(t, rulesFile), read(t, "rules_test.yml")
	alerts := found(rules, `alert: (\S+)`)
	if len(alerts) < 15 {
		t.Errorf("only %d alerts were found", len(alerts))
	}
	for _, alert := range alerts {
		if !strings.HasPrefix(alert, "Rollcall") {
			t.Errorf("%s: the name does not say whose alert it is", alert)
		}
		if !strings.Contains(tests, "alertname: "+alert+"\n") {
			t.Errorf("%s is not tested in rules_test.yml", alert)
		}
		if !strings.Contains(rules, "runbook_url: "+runbookURL+alert+".md") {
			t.Errorf("%s does not link to its page below %s", alert, runbookURL)
		}
		page, found := runbook.Page(alert)
		if !found {
			t.Errorf("%s has no page", alert)
		}
		for _, part := range []string{"# " + alert, "## Meaning", "## Impact", "## Look", "## Fix", "## Verify"} {
			if !strings.Contains(page, part+"\n") {
				t.Errorf("the page of %s lacks %q", alert, part)
			}
		}
	}
	if pages := runbook.Names(); !slices.Equal(pages, alerts) {
		t.Errorf("pages %v, alerts %v", pages, alerts)
	}
	// One address in one form, so that one replacement moves every link.
	if links := found(rules, `runbook_url: (\S+/)`); !slices.Equal(links, []string{runbookURL}) {
		t.Errorf("links begin with %v, want %s alone", links, runbookURL)
	}
}

// TestRunbookCommandsWorkInTheImage: it has neither a shell nor curl nor the nats CLI; what is
// not the worker itself runs where the containers are started from.
func TestRunbookCommandsWorkInTheImage(t *testing.T) {
	t.Parallel()
	commands := 0
	for _, name := range runbook.Names() {
		page, _ := runbook.Page(name)
		for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(page, -1) {
			for line := range strings.Lines(block[1]) {
				commands++
				word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
				if !slices.Contains([]string{"worker", "docker", "kubectl"}, word) {
					t.Errorf("%s: %q is no command of the image", name, strings.TrimSpace(line))
				}
			}
		}
		if m := regexp.MustCompile(`\b(curl|wget|psql|sh -c)\b`).FindString(page); m != "" {
			t.Errorf("%s needs %s", name, m)
		}
	}
	if commands < 40 {
		t.Errorf("only %d commands were found", commands)
	}
}

// TestRunbooksSayWhoseLoginACommandTakes: under the shipped lock a worker's own user may do little
// (docs/operations.md, On call).
func TestRunbooksSayWhoseLoginACommandTakes(t *testing.T) {
	t.Parallel()
	ops := regexp.MustCompile(`worker (?:dead|events|job|pause|resume|drain|cancel|erase|schedule|set (?:wait|cancel)|publish|setup(?: --archive)?)\b`)
	pages := 0
	for _, name := range runbook.Names() {
		page, _ := runbook.Page(name)
		command := ops.FindString(page)
		if command == "" {
			continue
		}
		pages++
		if !strings.Contains(strings.Join(strings.Fields(page), " "), "[operators' login](../operations.md#on-call)") {
			t.Errorf("%s: %q takes the operators' login, and the page does not say so", name, command)
		}
	}
	if pages < 8 {
		t.Errorf("only %d pages need it", pages)
	}
}

// panel is what this test looks at in a panel of the dashboard.
type panel struct {
	ID      int    `json:"id"`
	Type    string `json:"type"`
	Title   string `json:"title"`
	Targets []struct {
		Expr string `json:"expr"`
	} `json:"targets"`
	Pos struct{ H, W, X, Y int } `json:"gridPos"`
}

func TestDashboardIsWhole(t *testing.T) {
	t.Parallel()
	var d struct {
		UID    string  `json:"uid"`
		Panels []panel `json:"panels"`
	}
	if err := json.Unmarshal([]byte(read(t, dashboardFile)), &d); err != nil || d.UID == "" {
		t.Fatalf("the dashboard: %v", err)
	}
	ids, rows := map[int]bool{}, 0
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" || p.Pos.W < 1 || p.Pos.X+p.Pos.W > 24 {
			t.Errorf("panel %d %q: id twice, no title, or out of the grid: %+v", p.ID, p.Title, p.Pos)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			rows++
			continue
		}
		if len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			if !strings.Contains(target.Expr, "$pool") {
				t.Errorf("panel %q does not keep to the chosen pool: %s", p.Title, target.Expr)
			}
			// Replicas of a pool report the same number, so it is a maximum; pools add up.
			if p.Type == "stat" && strings.HasPrefix(target.Expr, "max(") && !strings.Contains(target.Expr, "_age_") {
				t.Errorf("panel %q shows the largest of several pools, not their sum: %s", p.Title, target.Expr)
			}
		}
	}
	if rows != 7 || len(ids) < 30 {
		t.Errorf("%d rows and %d panels", rows, len(ids)-rows)
	}
}

func TestRulesDoWhatTheySay(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed; it comes with Debian's package prometheus")
	}
	for _, args := range [][]string{{"test", "rules", "rules_test.yml"}, {"check", "config", "prometheus.yml"}} {
		if out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
	// Grafana's variables stand for what Prometheus would not parse; the expressions in the
	// place of rules are checked like these.
	dashboard := strings.NewReplacer("$__rate_interval", "5m").Replace(read(t, dashboardFile))
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for i, m := range regexp.MustCompile(`"expr": ("(?:[^"\\]|\\.)*")`).FindAllStringSubmatch(dashboard, -1) {
		fmt.Fprintf(&rules, "  - {record: 'dashboard:%d', expr: %s}\n", i, m[1])
	}
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), promtool, "check", "rules", "--lint=none", file).CombinedOutput(); err != nil {
		t.Errorf("the dashboard's expressions: %v\n%s", err, out)
	}
}

var update = flag.Bool("update", false, "renew the table of metrics in the documentation")

func TestDocumentationListsEveryMetric(t *testing.T) {
	t.Parallel()
	const path, begin, end = "../../docs/observability.md", "<!-- metrics:begin -->\n", "<!-- metrics:end -->"
	text := read(t, path)
	before, rest, begun := strings.Cut(text, begin)
	_, after, ended := strings.Cut(rest, end)
	if !begun || !ended {
		t.Fatalf("%s lacks its marks", path)
	}
	want := before + begin + table(exposition(t)) + end + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if want != text {
		t.Errorf("%s differs from what a worker measures; renew it with: go test ./deploy/prometheus -run Documentation -update", path)
	}
}

// table is a row for every metric of Rollcall on the page, from its own help.
func table(page string) string {
	var b strings.Builder
	b.WriteString("| metric | type | labels | |\n|---|---|---|---|\n")
	for _, m := range regexp.MustCompile(`(?m)^# HELP (rollcall_\S+) (.*)\n# TYPE \S+ (\S+)$`).FindAllStringSubmatch(page, -1) {
		name, help, kind := m[1], m[2], m[3]
		labels := found(strings.Join(found(page, `(?m)^`+name+`(?:_bucket)?(\{.*\}) `), ""), `([a-z_]+)="`)
		labels = slices.DeleteFunc(labels, func(l string) bool { return l == "pool" || l == "le" })
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, kind, strings.Join(labels, ", "), help)
	}
	return b.String()
}
