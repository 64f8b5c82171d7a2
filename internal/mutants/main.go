// Command mutants plants one bug at a time, each of which breaks a promise, and runs the tests
// that must notice; without a bug they must be green. It prints a table and fails if a bug
// survives. The bugs are planted by an overlay of the go command: the tree itself is never
// changed, and the product carries no hook.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"rollcall/internal/overlay"
)

// mutant is one bug.
type mutant struct {
	name string
	// promise that the bug breaks, in the words of the README.
	promise string
	file    string
	// old occurs once in the file and is replaced by new.
	old, new string
	// tests are the arguments of go test that must fail.
	tests []string
}

// timeout for the tests of one mutant: a bug may also show as a test that never ends.
const timeout = 5 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// run plants every mutant, or those whose name contains one of the arguments.
func run(ctx context.Context, only []string) error {
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return fmt.Errorf("make a folder for the overlays: %w", err)
	}
	defer os.RemoveAll(dir)
	chosen := slices.DeleteFunc(mutants(), func(m mutant) bool { return !selected(m.name, only) })
	fmt.Fprintln(os.Stderr, "first the tests without a bug; they must be green")
	if err := sound(ctx, chosen); err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	survivors := 0
	fmt.Fprintln(os.Stderr, "bugs are planted one by one; each must turn the tests red")
	for _, m := range chosen {
		start := time.Now()
		by, err := m.plant(ctx, dir)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		result := "found"
		if by == "" {
			result, survivors = "SURVIVED", survivors+1
		}
		fmt.Fprintf(os.Stderr, "%-9s %s (%s)\n", result, m.name, time.Since(start).Round(time.Second))
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", result, m.name, m.promise, by)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	if survivors > 0 {
		return fmt.Errorf("%d planted bugs survived", survivors)
	}
	return nil
}

func selected(name string, only []string) bool {
	for _, part := range only {
		if strings.Contains(name, part) {
			return true
		}
	}
	return len(only) == 0
}

// sound runs the tests of some mutants without their bugs: tests that are red by themselves, or
// out of time on this machine, would seem to find every one.
func sound(ctx context.Context, chosen []mutant) error {
	done := map[string]bool{}
	for _, m := range chosen {
		name := strings.Join(m.tests, " ")
		if done[name] {
			continue
		}
		done[name] = true
		by, err := test(ctx, m.tests)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if by != "" {
			return fmt.Errorf("go test %s is red without a bug, by %s", name, by)
		}
	}
	return nil
}

// plant runs the tests with the bug in place and returns the first one that failed, empty if
// none did.
func (m mutant) plant(ctx context.Context, dir string) (by string, err error) {
	path, err := overlay.Change{File: m.file, Old: m.old, New: m.new}.Write(dir)
	if err != nil {
		return "", fmt.Errorf("plant the bug: %w", err)
	}
	return test(ctx, m.tests, "-overlay", path)
}

// test runs go test with further flags and returns the first test that failed, empty if none
// did.
func test(ctx context.Context, tests []string, flags ...string) (by string, err error) {
	args := slices.Concat([]string{"test", "-count=1", "-failfast", "-timeout", timeout.String()}, flags, tests)
	out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err == nil {
		return "", nil
	}
	if bytes.Contains(out, []byte("[build failed]")) || bytes.Contains(out, []byte("[setup failed]")) {
		return "", fmt.Errorf("it does not compile:\n%s", out)
	}
	return firstFailure(out), nil
}

// firstFailure names the test that failed.
func firstFailure(out []byte) string {
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if rest, found := strings.CutPrefix(line, "--- FAIL: "); found {
			name, _, _ := strings.Cut(rest, " (")
			return name
		}
		if strings.HasPrefix(line, "panic: ") {
			return line
		}
	}
	return "the test run"
}
