package faulttest_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// testNames returns the names of the tests in the Go files below dir.
func testNames(t *testing.T, dir string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			names[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestTheMatrixIsComplete: every test that docs/reliability.md and SECURITY.md name exists,
// and every test of the process tier stands in the matrix.
func TestTheMatrixIsComplete(t *testing.T) {
	t.Parallel()
	const root = "../.."
	all := testNames(t, root)
	mentioned := map[string]bool{}
	for _, page := range []string{"docs/reliability.md", "docs/releases.md", "docs/limits.md", "SECURITY.md"} {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(string(text), -1) {
			mentioned[name] = true
			if !all[name] {
				t.Errorf("%s names %s, which does not exist", page, name)
			}
		}
	}
	tier := testNames(t, filepath.Join(root, "test/fault"))
	maps.Copy(tier, testNames(t, filepath.Join(root, "test/power")))
	for name := range testNames(t, filepath.Join(root, "test/power/forgetful")) {
		delete(tier, name) // those test the disk, not the product
	}
	for name := range tier {
		if name != "TestMain" && !mentioned[name] {
			t.Errorf("%s is not in the matrix of docs/reliability.md", name)
		}
	}
}
