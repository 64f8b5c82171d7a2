package composetest_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A person searches the page for the words on the screen, so they must be those of the code.
func TestTheOperationsPageQuotesTheCode(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(root, "docs/operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "<!-- messages:begin -->")
	table, _, found := strings.Cut(table, "<!-- messages:end -->")
	if !found {
		t.Fatal("docs/operations.md has no table of messages")
	}
	code := source(t)
	quoted := regexp.MustCompile("`([^`]+)`")
	rows := strings.Split(strings.TrimSpace(table), "\n")[2:]
	if len(rows) < 20 {
		t.Errorf("only %d messages are explained", len(rows))
	}
	for _, row := range rows {
		for _, m := range quoted.FindAllStringSubmatch(strings.Split(row, "|")[1], -1) {
			if !strings.Contains(code, literal(m[1])) {
				t.Errorf("nothing in the code says %q", m[1])
			}
		}
	}
}

// TestTheRunbookNamesWhatIsThere: what a page says to look for in the log is a message of the code,
// and what it says to look at in Grafana is a panel.
func TestTheRunbookNamesWhatIsThere(t *testing.T) {
	t.Parallel()
	code := source(t)
	dashboard, err := os.ReadFile(filepath.Join(root, "deploy/grafana/dashboards/rollcall.json"))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs/runbook/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	inLog := regexp.MustCompile("(?:[Ii]n (?:its|the) logs?(?: of (?:a|the) replica)?:|in its log:|log (?:of a replica )?says so|`,) (?:\\()?`([a-z][^`]* [^`]*)`")
	grafana := regexp.MustCompile(`(?s)\nGrafana: (.*?)\n\n`)
	panel := regexp.MustCompile(`\*([A-Z][^*]+)\*`)
	messages, panels := 0, 0
	for _, file := range pages {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		page := strings.ReplaceAll(string(text), "`,\n`", "`, `")
		for _, m := range inLog.FindAllStringSubmatch(page, -1) {
			messages++
			// The client of NATS says that a permission was violated.
			if !strings.Contains(code, `"`+m[1]) && m[1] != "permissions violation" {
				t.Errorf("%s: nothing in the code says %q", filepath.Base(file), m[1])
			}
		}
		for _, m := range grafana.FindAllStringSubmatch(page, -1) {
			for _, p := range panel.FindAllStringSubmatch(m[1], -1) {
				panels++
				if !strings.Contains(string(dashboard), `"title": "`+p[1]) {
					t.Errorf("%s: Grafana has no panel %q", filepath.Base(file), p[1])
				}
			}
		}
	}
	if messages < 8 || panels < 15 {
		t.Errorf("only %d messages and %d panels were found", messages, panels)
	}
}

// literal is how the code has to write the words: a message that ends with … goes on there, and
// the log of an outage adds that something is tried again.
func literal(words string) string {
	if beginning, goesOn := strings.CutSuffix(words, "…"); goesOn {
		return `"` + strings.TrimSuffix(beginning, " ")
	}
	if subject, outage := strings.CutSuffix(words, " fails, retrying"); outage {
		return `NewOutage(log, "` + subject + `"`
	}
	return `"` + words + `"`
}

// source is the code of the program, without its tests.
func source(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			content, err := os.ReadFile(path)
			all.Write(content)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}
