package main

import (
	"bytes"
	"context"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"rollcall/internal/demo"
	"rollcall/internal/devkit"
	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
)

// tripwire collects output and does something once, when it contains a text. It is safe for
// concurrent use.
type tripwire struct {
	on string
	do func()

	mu    sync.Mutex
	seen  bytes.Buffer
	fired bool
}

func (w *tripwire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.seen.Write(p)
	if !w.fired && strings.Contains(w.seen.String(), w.on) {
		w.fired = true
		w.do()
	}
	return n, err
}

func (w *tripwire) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen.String()
}

// background runs the program until the end of the test, and returns its stdout and stderr so
// far once stderr contains ready.
func background(t *testing.T, env []string, ready string, args ...string) (stdout, stderr *tripwire) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	started, ended := make(chan struct{}), make(chan int, 1)
	stdout = &tripwire{on: "never printed", do: func() {}}
	stderr = &tripwire{on: ready, do: func() { close(started) }}
	go func() { ended <- run(ctx, args, env, strings.NewReader(""), stdout, stderr) }()
	t.Cleanup(func() {
		cancel(errSignal)
		if code := <-ended; code != codeOK {
			t.Errorf("%v: exit %d: %s", args, code, stderr)
		}
	})
	select {
	case <-started:
	case code := <-ended:
		ended <- code
		t.Fatalf("%v ended with %d: %s", args, code, stderr)
	case <-time.After(time.Minute):
		t.Fatalf("%v did not get ready: %s", args, stderr)
	}
	return stdout, stderr
}

// pasted turns a printed command into the arguments and the environment of run.
func pasted(t *testing.T, line string) (env, args []string) {
	t.Helper()
	words := regexp.MustCompile(`'[^']*'|\S+`).FindAllString(line, -1)
	for i := range words {
		words[i] = strings.Trim(words[i], "'")
	}
	if strings.HasPrefix(words[0], "NATS_URL=") {
		env, words = words[:1], words[1:]
	}
	if words[0] == "go" {
		words = words[2:] // go run
	}
	return env, words[1:]
}

func TestWhatDevPrintsCanBePasted(t *testing.T) {
	t.Parallel()
	stdout, stderr := background(t, []string{"NATS_USER=nobody"}, "Ctrl-C", "dev", "-o", "json")
	p := decode[playground](t, result{stdout: stdout.String()})
	if len(p.Services) != 3 {
		t.Errorf("got %+v, want three services", p)
	}
	if !strings.HasSuffix(p.NATS, ":4222") && !strings.Contains(stderr.String(), "4222 is taken") {
		t.Errorf("listening on %s without a word: %s", p.NATS, stderr)
	}
	var commands []string
	for line := range strings.Lines(stderr.String()) {
		if command, ok := strings.CutPrefix(line, "  "); ok {
			commands = append(commands, strings.TrimSpace(command))
		}
	}
	if len(commands) != 3 {
		t.Fatalf("got %q, want three commands", commands)
	}

	// The stock CLI is stood in for by a client that does what the line says.
	_, words := pasted(t, commands[2])
	nc, err := nats.Connect(words[1])
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	heard, err := nc.SubscribeSync(words[3])
	if err != nil || words[0] != "--server" || words[2] != "sub" {
		t.Fatalf("%q: %v", commands[2], err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}

	// Without an id of its own the flaky service may refuse the job, or put it off.
	const id = "ann"
	if flaky := devkit.NewFlaky(demo.FlakySeed); flaky.Refuses(id) || flaky.PutsOff(id) > 0 {
		t.Fatalf("job %s is no good here: the flaky service does not say ok at once", id)
	}
	env, args := pasted(t, commands[0])
	if r := worker(t, env, append(args, "--id", id)...); r.code != codeOK || !strings.Contains(r.stdout, "succeeded") {
		t.Errorf("%q: exit %d, %s%s", commands[0], r.code, r.stdout, r.stderr)
	}
	faulttest.Until(t, limit, "dev prints what goes on", func() bool { return strings.Contains(stderr.String(), "1 succeeded, 0 failed") })
	m, err := heard.NextMsg(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jobs.DecodeEvent(m.Data); err != nil {
		t.Error(err)
	}
	env, args = pasted(t, commands[1])
	if r := worker(t, env, append(args, "--count", "1")...); r.code != codeOK || !strings.Contains(r.stdout, "succeeded") {
		t.Errorf("%q: exit %d, %s%s", commands[1], r.code, r.stdout, r.stderr)
	}
	page(t, p.Pages+"livez")
}

// page fails the test unless the page is there. The job may have been done by the other replica
// before this one served its pages.
func page(t *testing.T, url string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	var resp *http.Response
	faulttest.Until(t, time.Minute, url+" is served", func() bool {
		resp, err = transport.RoundTrip(req)
		return err == nil
	})
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s", url, resp.Status)
	}
}

func TestNextCommandsNameTheServerWhereItIsNotTheDefault(t *testing.T) {
	t.Parallel()
	if got := nextCommands("nats://127.0.0.1:4222", "worker")[0]; !strings.HasPrefix(got, "worker publish") {
		t.Errorf("got %q", got)
	}
	if got := nextCommands("nats://127.0.0.1:14222", "worker")[0]; !strings.HasPrefix(got, "NATS_URL=nats://127.0.0.1:14222 worker publish") {
		t.Errorf("got %q", got)
	}
}

func TestDevNamesThePortWhereAnyWasAskedFor(t *testing.T) {
	t.Parallel()
	around, err := demo.Surround(t.Context(), devkit.Options{}, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = around.Stop() })
	c := &cli{env: []string{"ROLLCALL_HTTP_ADDR=" + demo.AnyPort}}
	settings, err := c.devSettings(t.Context(), around)
	if err != nil {
		t.Fatal(err)
	}
	if addr := settings[0].Web.Addr; !strings.HasPrefix(addr, "127.0.0.1:") || addr == demo.AnyPort {
		t.Errorf("dev would print http://%s/, where nothing can be found", addr)
	}
}

func TestAnAddressThatIsTakenIsReplaced(t *testing.T) {
	t.Parallel()
	service, err := devkit.Serve(t.Context(), demo.AnyPort, devkit.Fast(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Shutdown(context.Background()) })
	taken := strings.TrimSuffix(strings.TrimPrefix(service.URL(), "http://"), "/jobs")
	if got := freeAddr(t.Context(), taken); got == taken || !strings.HasPrefix(got, "127.0.0.1:") {
		t.Errorf("got %q for the taken %q", got, taken)
	}
}

func TestDemoServicesRunByThemselves(t *testing.T) {
	t.Parallel()
	_, stderr := background(t, nil, "steady: http", "demo-services", "--fast", demo.AnyPort, "--steady", demo.AnyPort, "--flaky", demo.AnyPort)
	urls := regexp.MustCompile(`steady: (http\S+)`).FindStringSubmatch(stderr.String())
	if len(urls) != 2 {
		t.Fatalf("got %q", stderr)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, urls[1], nil)
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("got %s, want 405: the service answers POST only", resp.Status)
	}
}

func TestADemoServiceWithoutAnAddressIsLeftOut(t *testing.T) {
	t.Parallel()
	_, stderr := background(t, nil, "steady: http", "demo-services", "--fast=", "--steady", demo.AnyPort, "--flaky=")
	if strings.Contains(stderr.String(), "fast:") || strings.Contains(stderr.String(), "flaky:") {
		t.Errorf("got %q, want the steady service only", stderr)
	}
}

func TestAnAddressThatCannotBeListenedOnIsAnError(t *testing.T) {
	t.Parallel()
	if r := worker(t, nil, "demo-services", "--fast", "256.0.0.1:1", "--steady", demo.AnyPort, "--flaky", demo.AnyPort); r.code != codeFailed || !strings.Contains(r.stderr, "256.0.0.1:1") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}
