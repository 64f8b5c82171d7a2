package app_test

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"

	"rollcall/internal/app"
)

const (
	tableBegin = "<!-- settings:begin -->\n"
	tableEnd   = "<!-- settings:end -->"
)

var update = flag.Bool("update", false, "renew the settings table in the documentation")

func TestDocumentationHasTheSettings(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"../../README.md", "../../docs/configuration.md"} {
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		before, rest, begun := bytes.Cut(page, []byte(tableBegin))
		_, after, ended := bytes.Cut(rest, []byte(tableEnd))
		if !begun || !ended {
			t.Fatalf("%s lacks the marks %q and %q", path, tableBegin, tableEnd)
		}
		want := string(before) + tableBegin + app.Markdown() + tableEnd + string(after)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
				t.Fatal(err)
			}
		} else if want != string(page) {
			t.Errorf("%s differs from the settings; renew it with: go test ./internal/app -run Documentation -update", path)
		}
	}
}

// A setting that nobody has a reason to change should go.
func TestEverySettingHasAReasonToChangeIt(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, reasons, found := strings.Cut(string(page), "\n## When to change what\n")
	if !found {
		t.Fatal("docs/configuration.md does not say when to change what")
	}
	settings := 0
	for line := range strings.Lines(app.Markdown()) {
		name, ok := strings.CutPrefix(line, "| `")
		if !ok {
			continue
		}
		settings++
		name, _, _ = strings.Cut(strings.TrimPrefix(name, "ROLLCALL_SVC_<NAME>"), "`")
		if !strings.Contains(reasons, "`"+name+"`") {
			t.Errorf("docs/configuration.md does not say when to change %s", name)
		}
	}
	if settings < 60 {
		t.Errorf("only %d settings were looked for", settings)
	}
}

func TestTableHasARowForEverySetting(t *testing.T) {
	t.Parallel()
	table := app.Markdown()
	for _, want := range []string{
		"| `ROLLCALL_POOL` | `default` |", "| `NATS_URL` | `nats://127.0.0.1:4222` |", "| `ROLLCALL_SVC_<NAME>_TIMEOUT` | `10s` |",
		"also as `NATS_PASSWORD_FILE`", "also as `ROLLCALL_SVC_<NAME>_SECRET_FILE`",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("the table lacks %q", want)
		}
	}
	for line := range strings.Lines(table) {
		if got := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|"); got != 4 {
			t.Errorf("%d bars in %q, want 4", got, line)
		}
	}
}
