// Command servers runs the core of the process tier against every series of nats-server that
// Rollcall supports, and prints the table that docs/releases.md shows. The servers are built
// from the Go module proxy and kept in the user's cache.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"

	"rollcall/internal/faulttest"
)

// versions are the newest of each series, oldest first. The last one is that of go.mod, which all
// other tests use.
var versions = [...]string{"v2.12.15", "v2.14.10", "v2.15.2"}

// check is a column of the table: a test that must pass.
type check struct{ title, test string }

var checks = [...]check{
	{"jobs, retries, dead letters", "TestTheCore"},
	{"broker killed and restarted", "TestBrokerKilledAndRestarted"},
	{"stalled worker refused", "TestZombieBeforeItsCommit"},
	{"three nodes, one lost", "TestTheCoreOnThreeNodes"},
	{"delayed jobs", "TestDelayedJobs"},
}

// notThere is what a test prints where a server lacks something that a pool can do without.
const notThere = "NOT THERE: "

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	flags := flag.NewFlagSet("servers", flag.ContinueOnError)
	page := flags.String("update", "", "write the table into this page, between its markers")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var table strings.Builder
	fmt.Fprint(&table, "| nats-server |")
	for _, c := range checks {
		fmt.Fprintf(&table, " %s |", c.title)
	}
	fmt.Fprint(&table, "\n|", strings.Repeat("---|", len(checks)+1), "\n")
	failed := 0
	for _, version := range versions {
		row, bad, err := try(ctx, version, progress)
		if err != nil {
			return err
		}
		failed += bad
		fmt.Fprintf(&table, "| %s | %s |\n", strings.TrimPrefix(version, "v"), strings.Join(row, " | "))
	}
	fmt.Fprint(out, table.String())
	if failed > 0 {
		return fmt.Errorf("%d cells failed; their output is above", failed)
	}
	if *page == "" {
		return nil
	}
	return update(*page, table.String())
}

// try fills the row of one version, and counts the checks that failed.
func try(ctx context.Context, version string, progress io.Writer) (row []string, failed int, err error) {
	fmt.Fprintln(progress, "nats-server", version)
	server, err := install(ctx, version, progress)
	if err != nil {
		return nil, 0, err
	}
	tests := make([]string, len(checks))
	for i, c := range checks {
		tests[i] = c.test
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-tags", "fault", "-count=1", "-v", "-timeout", "10m",
		"-run", "^("+strings.Join(tests, "|")+")$", "./test/fault")
	cmd.Env = append(os.Environ(), faulttest.ServerVariable+"="+server)
	text, err := cmd.CombinedOutput()
	for _, c := range checks {
		cell := resultOf(text, c.test)
		if cell == "fails" {
			failed++
		}
		row = append(row, cell)
	}
	if failed > 0 {
		fmt.Fprintf(progress, "on %s: %v\n%s\n", version, err, text)
	}
	return row, failed, nil
}

// lacks finds what a test says of something that is not there.
var lacks = regexp.MustCompile(notThere + `(.*)`)

// resultOf is the cell for a test, read from the output of go test.
func resultOf(text []byte, test string) string {
	result := regexp.MustCompile(`(?m)^--- (PASS|SKIP): ` + test + ` `).FindSubmatch(text)
	switch {
	case result == nil:
		return "fails"
	case string(result[1]) == "PASS":
		return "yes"
	case lacks.Match(text):
		return "no: " + string(lacks.FindSubmatch(text)[1])
	}
	return "not tested"
}

// install builds a server once and returns its path.
func install(ctx context.Context, version string, progress io.Writer) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache: %w", err)
	}
	dir := filepath.Join(cache, "rollcall", "nats-server", version)
	server := filepath.Join(dir, "nats-server")
	if _, err := os.Stat(server); err == nil {
		return server, nil
	}
	cmd := exec.CommandContext(ctx, "go", "install", "github.com/nats-io/nats-server/v2@"+version)
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=", "CGO_ENABLED=0")
	cmd.Stderr = progress
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build nats-server %s: %w", version, err)
	}
	return server, nil
}

// The lines around the table of a page.
const begin, end = "<!-- servers:begin -->\n", "<!-- servers:end -->"

// update puts the table into a page.
func update(page, table string) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return fmt.Errorf("read the page: %w", err)
	}
	before, rest, opened := strings.Cut(string(text), begin)
	_, after, closed := strings.Cut(rest, end)
	if !opened || !closed {
		return errors.New(page + " has no markers for the table")
	}
	if err := os.WriteFile(page, []byte(before+begin+table+end+after), 0o644); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}
