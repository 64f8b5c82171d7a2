package prometheus_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// moment is series, and what panels of the dashboard must show of them after ten minutes.
type moment struct {
	name   string
	series map[string]string
	// panels gives the samples of a panel's expressions, in order, in the words of promtool: the
	// labels, and the value.
	panels map[string][]map[string]float64
}

// moments are where the dashboard has lied, or would.
func moments() []moment {
	return []moment{
		{
			name: "a breaker holds back fifty calls for each that is sent",
			series: map[string]string{
				`rollcall_service_request_duration_seconds_count{pool="mail",service="billing"}`:         "0+6x20",
				`rollcall_service_requests_total{pool="mail",service="billing",outcome="ok"}`:            "0x20",
				`rollcall_service_requests_total{pool="mail",service="billing",outcome="refused"}`:       "0+6x20",
				`rollcall_service_requests_total{pool="mail",service="billing",outcome="breaker_open"}`:  "0+300x20",
				`rollcall_service_request_duration_seconds_count{pool="print",service="billing"}`:        "0+60x20",
				`rollcall_service_requests_total{pool="print",service="billing",outcome="ok"}`:           "0+60x20",
				`rollcall_service_retries_total{pool="mail",service="billing"}`:                          "0x20",
				`rollcall_service_retries_total{pool="print",service="billing"}`:                         "0x20",
				`rollcall_service_requests_total{pool="print",service="billing",outcome="breaker_open"}`: "0x20",
			},
			panels: map[string][]map[string]float64{
				"Calls":                  {{`{pool="mail", service="billing"}`: 0.1, `{pool="print", service="billing"}`: 1}},
				"Failed calls by reason": {{`{pool="mail", service="billing", outcome="refused"}`: 0.1}},
				"Retries within calls, calls held back": {
					{`{pool="mail", service="billing"}`: 0, `{pool="print", service="billing"}`: 0},
					{`{pool="mail", service="billing"}`: 5},
				},
			},
		},
		{
			name: "nothing ends in an outage",
			series: map[string]string{
				`rollcall_jobs_finished_total{pool="mail",outcome="succeeded"}`: "7x20",
				`rollcall_jobs_finished_total{pool="mail",outcome="failed"}`:    "1x20",
				`rollcall_consumer_pending{pool="mail"}`:                        "9x20",
				`rollcall_consumer_ack_pending{pool="mail"}`:                    "3x20",
			},
			panels: map[string][]map[string]float64{"Succeeded": {{"{}": 0}}},
		},
		{
			name: "nothing to do",
			series: map[string]string{
				`rollcall_jobs_finished_total{pool="mail",outcome="succeeded"}`: "7x20",
				`rollcall_consumer_pending{pool="mail"}`:                        "0x20",
				`rollcall_consumer_ack_pending{pool="mail"}`:                    "0x20",
			},
			panels: map[string][]map[string]float64{"Succeeded": {{}}},
		},
		{
			name: "one job in four fails",
			series: map[string]string{
				`rollcall_jobs_finished_total{pool="mail",outcome="succeeded"}`: "0+3x20",
				`rollcall_jobs_finished_total{pool="mail",outcome="failed"}`:    "0+1x20",
				`rollcall_consumer_pending{pool="mail"}`:                        "9x20",
				`rollcall_consumer_ack_pending{pool="mail"}`:                    "3x20",
			},
			panels: map[string][]map[string]float64{"Succeeded": {{"{}": 0.75}}},
		},
		{
			name: "storage without a limit of the account",
			series: map[string]string{
				`rollcall_store_used_bytes{pool="mail"}`:                 "900x20",
				`rollcall_stream_bytes{pool="mail",stream="DONE"}`:       "300x20",
				`rollcall_stream_limit_bytes{pool="mail",stream="DONE"}`: "400x20",
				`rollcall_stream_bytes{pool="mail",stream="JOBS"}`:       "600x20",
			},
			panels: map[string][]map[string]float64{"Storage in use": {{}, {`{stream="DONE"}`: 0.75}}},
		},
	}
}

// TestDashboardTellsTheTruth evaluates the expressions of panels as Prometheus does.
func TestDashboardTellsTheTruth(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed; it comes with Debian's package prometheus")
	}
	var d struct {
		Panels []panel `json:"panels"`
	}
	if err := json.Unmarshal([]byte(read(t, dashboardFile)), &d); err != nil {
		t.Fatal(err)
	}
	exprs := map[string][]string{}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			expr := strings.NewReplacer("$__rate_interval", "5m", `"$pool"`, `".*"`, `"$service"`, `".*"`).Replace(target.Expr)
			exprs[p.Title] = append(exprs[p.Title], expr)
		}
	}
	var tests []map[string]any
	for _, m := range moments() {
		var series, checks []map[string]any
		for name, values := range m.series {
			series = append(series, map[string]any{"series": name, "values": values})
		}
		for title, wants := range m.panels {
			if len(exprs[title]) != len(wants) {
				t.Fatalf("panel %q has %d expressions, want %d", title, len(exprs[title]), len(wants))
			}
			for i, want := range wants {
				samples := []map[string]any{}
				for labels, value := range want {
					samples = append(samples, map[string]any{"labels": labels, "value": value})
				}
				checks = append(checks, map[string]any{"expr": exprs[title][i], "eval_time": "10m", "exp_samples": samples})
			}
		}
		tests = append(tests, map[string]any{"name": m.name, "interval": "1m", "input_series": series, "promql_expr_test": checks})
	}
	file := filepath.Join(t.TempDir(), "dashboard_test.yml")
	text, err := json.Marshal(map[string]any{"evaluation_interval": "1m", "tests": tests}) // JSON is YAML
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), promtool, "test", "rules", file).CombinedOutput(); err != nil {
		t.Error(fmt.Errorf("%w\n%s", err, out))
	}
}
