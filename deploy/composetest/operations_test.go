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
