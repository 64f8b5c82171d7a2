package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"rollcall/internal/faulttest"
)

func TestMain(m *testing.M) {
	faulttest.Role(map[string]func() int{"worker": func() int {
		main()
		return codeOK
	}})
	// nats.go 1.55.0 leaves this goroutine waiting for ever on a nil channel when an async
	// publisher is cleaned up before the goroutine got to run (jetstream/publish.go).
	goleak.VerifyTestMain(m, faulttest.ServerLeftovers(), goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"))
}

// result is what a person sees of one run of the program.
type result struct {
	code           int
	stdout, stderr string
}

// worker runs the program to its end.
func worker(t *testing.T, env []string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, env, strings.NewReader(""), &stdout, &stderr)
	return result{code: code, stdout: stdout.String(), stderr: stderr.String()}
}

func TestUsageMistakesExitTwo(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		args []string
		hint string
	}{
		"unknown command":               {[]string{"rnu"}, "'worker --help'"},
		"unknown flag":                  {[]string{"version", "--nope"}, "'worker version --help'"},
		"surplus arg":                   {[]string{"version", "extra"}, "Usage: worker version"},
		"unknown format":                {[]string{"version", "-o", "xml"}, "'worker version --help'"},
		"missing arg":                   {[]string{"publish"}, "Usage: worker publish SUBJECT [BODY]"},
		"another word for a subcommand": {[]string{"dead", "list"}, "'worker dead ls'"},
		"a misspelt subcommand":         {[]string{"dead", "shwo"}, "'worker dead show'"},
		"missing arg of a subcommand":   {[]string{"dead", "show"}, "'worker dead show --help'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := worker(t, nil, tt.args...)
			if got.code != codeUsage || got.stdout != "" || !strings.Contains(got.stderr, tt.hint) {
				t.Errorf("got exit %d, stdout %q, stderr %q; want exit 2 with %s on stderr only", got.code, got.stdout, got.stderr, tt.hint)
			}
		})
	}
}

func TestUnknownCommandSuggestsTheNearest(t *testing.T) {
	t.Parallel()
	if got := worker(t, nil, "versoin"); !strings.Contains(got.stderr, "version") {
		t.Errorf("stderr %q does not suggest version", got.stderr)
	}
}

func TestVersionPrintsInEveryFormat(t *testing.T) {
	t.Parallel()
	for _, f := range []string{"json", "jsonl"} {
		got := worker(t, nil, "version", "-o", f)
		var b build
		if err := json.Unmarshal([]byte(got.stdout), &b); err != nil || got.code != codeOK {
			t.Fatalf("-o %s: exit %d, stdout %q: %v", f, got.code, got.stdout, err)
		}
		if !strings.HasPrefix(b.Go, "go1.") || b.Revision == "" {
			t.Errorf("-o %s: got %+v; want a Go version and a revision", f, b)
		}
	}
	if got := worker(t, nil, "version"); !strings.Contains(got.stdout, "revision  ") {
		t.Errorf("table: got %q", got.stdout)
	}
}
