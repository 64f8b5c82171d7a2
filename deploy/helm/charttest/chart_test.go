package charttest_test

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
)

var update = flag.Bool("update", false, "write the golden files anew")

const chartDir = "../rollcall"

// examples are the values files whose rendering is kept.
var examples = []string{"minimal", "full", "keda-prometheus"}

func loadChart(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func values(t *testing.T, example string) map[string]any {
	t.Helper()
	v, err := chartutil.ReadValuesFile(filepath.Join("testdata", example+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// render does what `helm template pool` does.
func render(c *chart.Chart, v map[string]any) (map[string]string, error) {
	release := chartutil.ReleaseOptions{Name: "pool", Namespace: "jobs", Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(c, v, release, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return engine.Engine{Strict: true}.Render(c, all)
}

// rendered is the manifest of an example by template, without the empty ones.
func rendered(t *testing.T, example string) map[string]string {
	t.Helper()
	files, err := render(loadChart(t), values(t, example))
	if err != nil {
		t.Fatalf("%s: %v", example, err)
	}
	maps.DeleteFunc(files, func(_, content string) bool { return strings.TrimSpace(content) == "" })
	return files
}

func TestRenderingIsAsItWas(t *testing.T) {
	t.Parallel()
	for _, example := range examples {
		t.Run(example, func(t *testing.T) {
			t.Parallel()
			files := rendered(t, example)
			var b strings.Builder
			for _, name := range slices.Sorted(maps.Keys(files)) {
				// Words for a person, and rules that have a test of their own below.
				if strings.HasSuffix(name, "NOTES.txt") || strings.HasSuffix(name, "prometheusrule.yaml") {
					continue
				}
				b.WriteString("--- # " + strings.TrimPrefix(name, "rollcall/") + "\n" + strings.Trim(files[name], "\n") + "\n")
			}
			golden := filepath.Join("testdata", example+".golden.yaml")
			if *update {
				if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("run go test ./... -update if this is meant:\n%s", diff)
			}
		})
	}
}

func TestLintHasNothingToSay(t *testing.T) {
	t.Parallel()
	for _, example := range examples {
		for _, m := range lint.AllWithKubeVersion(chartDir, values(t, example), "jobs", nil).Messages {
			if m.Severity > support.InfoSev {
				t.Errorf("%s: %s", example, m.Error())
			}
		}
	}
}

func TestMistakesInTheValuesAreNamed(t *testing.T) {
	t.Parallel()
	service := map[string]any{"name": "billing", "url": "http://billing/jobs"}
	with := func(key string, v any) map[string]any {
		return map[string]any{"services": []any{service}, key: v}
	}
	for name, c := range map[string]struct {
		values map[string]any
		says   string
	}{
		"no service":            {map[string]any{}, "services"},
		"service without a URL": {map[string]any{"services": []any{map[string]any{"name": "x"}}}, "url"},
		"comma in a URL":        {map[string]any{"services": []any{map[string]any{"name": "x", "url": "http://a,http://b"}}}, "url"},
		"misspelt key":          {with("replica", 3), "replica"},
		"pool with a dot":       {with("pool", map[string]any{"name": "a.b"}), "name"},
		"unknown trigger":       {with("keda", map[string]any{"trigger": "kafka"}), "trigger"},
		"two stream replicas":   {with("setup", map[string]any{"streamReplicas": 2}), "streamReplicas"},
		"number in settings":    {with("settings", map[string]any{"ROLLCALL_BATCH_SIZE": 96}), "ROLLCALL_BATCH_SIZE"},
		"setting of the chart":  {with("settings", map[string]any{"ROLLCALL_POOL": "x"}), "ROLLCALL_POOL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := render(loadChart(t), c.values)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want an error that names %s", err, c.says)
			}
		})
	}
	if _, err := render(loadChart(t), with("replicas", 3)); err != nil {
		t.Errorf("good values: %v", err)
	}
}

func TestRulesAreThoseOfTheComposeFile(t *testing.T) {
	t.Parallel()
	inChart, err := os.ReadFile(filepath.Join(chartDir, "files/rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	inDeploy, err := os.ReadFile("../../prometheus/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(inDeploy), string(inChart)); diff != "" {
		t.Errorf("cp deploy/prometheus/rules.yml deploy/helm/rollcall/files/\n%s", diff)
	}
}

func TestRunbookLinksLeadWhereTheyAreTold(t *testing.T) {
	t.Parallel()
	v := map[string]any{
		"services":       []any{map[string]any{"name": "billing", "url": "http://billing/jobs"}},
		"prometheusRule": map[string]any{"enabled": true, "runbookURL": "https://wiki.corp/rollcall/"},
	}
	files, err := render(loadChart(t), v)
	if err != nil {
		t.Fatal(err)
	}
	rules := files["rollcall/templates/prometheusrule.yaml"]
	if !strings.Contains(rules, "runbook_url: https://wiki.corp/rollcall/RollcallNoWorkers.md") || strings.Contains(rules, "rollcall.example") {
		t.Error("the links of the alerts do not lead to runbookURL")
	}
}
