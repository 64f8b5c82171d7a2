package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rollcall/internal/faulttest"
)

// readmeBlock returns the commands of the README behind a mark.
func readmeBlock(t *testing.T, mark string) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(text), "<!-- run: "+mark+" -->\n```sh\n")
	block, _, closed := strings.Cut(block, "```")
	if !found || !closed {
		t.Fatalf("the README has no block %q", mark)
	}
	return block
}

// readmeShell runs a block of the README in a shell that finds worker and nats-server: this test
// binary, in those roles. What the block starts in the background ends with it.
func readmeShell(t *testing.T, script string) (out string, err error) {
	t.Helper()
	bin := t.TempDir()
	for name, role := range map[string]string{"worker": "worker", "nats-server": "broker"} {
		program := fmt.Sprintf("#!/bin/sh\nFAULTTEST_ROLE=%s exec %q \"$@\"\n", role, os.Args[0])
		if err := os.WriteFile(filepath.Join(bin, name), []byte(program), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var said bytes.Buffer
	sh := exec.CommandContext(t.Context(), "sh", "-euc", script)
	sh.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "ROLLCALL_HTTP_ADDR=127.0.0.1:0", "ROLLCALL_LOG_LEVEL=warn"}
	sh.Dir = t.TempDir() // nats-server -js may keep its store here
	sh.Stdout, sh.Stderr = &said, &said
	sh.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	sh.WaitDelay = limit
	if err := sh.Start(); err != nil {
		t.Fatal(err)
	}
	cutOff := time.AfterFunc(limit, func() { _ = syscall.Kill(-sh.Process.Pid, syscall.SIGKILL) })
	defer cutOff.Stop()
	err = sh.Wait()
	return said.String(), err
}

// ends makes a script end what it started in the background.
const ends = `trap 'jobs -p >pids; while read p; do kill "$p"; done <pids; wait' EXIT` + "\n"

// withBroker replaces the broker's address by a free one.
func withBroker(t *testing.T, block string) string {
	t.Helper()
	port := fmt.Sprint(faulttest.FreePort(t))
	return strings.NewReplacer("nats-server -js &", "nats-server -a 127.0.0.1 -p "+port+" -js -sd . &", "4222", port).Replace(block)
}

// without drops the lines that begin like this.
func without(block, start string) string {
	lines := slices.Collect(strings.Lines(block))
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, start) }), "")
}

func TestTheFirstMinuteOfTheReadme(t *testing.T) {
	t.Parallel()
	billing := faulttest.StartRecorder(t, "billing")
	block := withBroker(t, readmeBlock(t, "own"))
	block = strings.Replace(without(block, "go install"), "localhost:9000", billing.Addr(), 1)
	block = strings.Replace(block, "\nworker run ", "\nworker run & ", 1)
	out, err := readmeShell(t, ends+block+"worker publish jobs.mail '{\"to\":\"ann\"}' --id order-42 --wait\n")
	if err != nil || !strings.Contains(out, "order-42") || !strings.Contains(out, "succeeded") {
		t.Errorf("%v:\n%s", err, out)
	}
}

// existing is the three services of the README.
type existing struct {
	mu   sync.Mutex
	seen map[string]int
}

func (e *existing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	line := r.Method + " " + r.URL.Path
	e.mu.Lock()
	e.seen[line]++
	e.mu.Unlock()
	switch {
	case line == "POST /v1/orders/17/invoice":
		_, _ = io.WriteString(w, `{"invoice":7}`)
	case line == "PUT /v1/stock/a-7":
		if r.Header.Get("X-Api-Key") != "s3cret" || r.Header.Get("X-Tenant") != "acme" {
			w.WriteHeader(http.StatusForbidden)
		}
	case line == "POST /send" && strings.Contains(string(body), "nobody@"):
		_, _ = io.WriteString(w, `{"status":"error","message":"no such box"}`)
	case line == "POST /send":
		_, _ = io.WriteString(w, `{"status":"queued"}`)
	default:
		w.WriteHeader(http.StatusTeapot)
	}
}

func TestTheExistingServicesOfTheReadme(t *testing.T) {
	t.Parallel()
	services := &existing{seen: map[string]int{}}
	server := httptest.NewServer(services)
	t.Cleanup(server.Close)
	addr := server.Listener.Addr().String()
	block := strings.NewReplacer("shop:8080", addr, "warehouse:8080", addr, "mailer:8080", addr).Replace(readmeBlock(t, "existing"))
	if strings.Count(block, addr) != 3 {
		t.Fatalf("the block does not have the three services:\n%s", block)
	}
	block = ends + "export NATS_URL=" + broker(t) + "\nworker setup\n" + without(block, "worker check") + "\n"
	out, err := readmeShell(t, block)
	if err != nil || !strings.Contains(out, "succeeded") {
		t.Fatalf("%v:\n%s", err, out)
	}
	for _, line := range []string{"POST /v1/orders/17/invoice", "PUT /v1/stock/a-7", "POST /send"} {
		if services.seen[line] != 1 {
			t.Errorf("%s was sent %d times for one job: %v", line, services.seen[line], services.seen)
		}
	}
	refused, err := readmeShell(t, strings.Replace(block, "ann@", "nobody@", 1))
	if err == nil || !strings.Contains(refused, "no such box") {
		t.Errorf("a mail that could not be sent: %v\n%s", err, refused)
	}
	checks, err := readmeShell(t, strings.Replace(strings.NewReplacer("shop:8080", addr, "warehouse:8080", addr, "mailer:8080", addr).Replace(
		without(readmeBlock(t, "existing"), "worker publish")), "worker run &", "", 1))
	if err != nil || !strings.Contains(checks, "done: 1 job") {
		t.Errorf("%v:\n%s", err, checks)
	}
}
