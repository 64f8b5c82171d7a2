package faulttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// logTail is how much of a child's output is shown when a test fails.
const logTail = 6 << 10

// pollEvery is how often the state of a child is looked at; a stopped child sends no signal.
const pollEvery = 20 * time.Millisecond

// Process is a child of the test process. It is killed at the end of the test at the
// latest, and its output is shown if the test failed.
type Process struct {
	name string
	cmd  *exec.Cmd
	log  string
	t    testing.TB
	done chan struct{}
}

// Start runs cmd as a child called name. Its output goes to a file, so that no goroutine of
// the test has to keep up with it; stderr only if cmd does not say where else.
func Start(t testing.TB, name string, cmd *exec.Cmd) *Process {
	t.Helper()
	out, err := os.CreateTemp(t.TempDir(), name+"-*.log")
	if err != nil {
		t.Fatalf("create the log of %s: %v", name, err)
	}
	defer out.Close() // the child has its own descriptor
	cmd.Stdout = out
	if cmd.Stderr == nil {
		cmd.Stderr = out
	}
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	p := &Process{name: name, cmd: cmd, log: out.Name(), t: t, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // the exit status is read from ProcessState
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("--- %s (%v) ---\n%s", name, cmd.ProcessState, tail(p.Log(), logTail))
		}
	})
	return p
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends sig. A process that has ended already is no error: faults race with exits.
func (p *Process) Signal(sig syscall.Signal) { _ = p.cmd.Process.Signal(sig) }

// Pause stops the process where it stands, as a stalled machine would.
func (p *Process) Pause() { p.Signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (p *Process) Resume() { p.Signal(syscall.SIGCONT) }

// Kill ends the process without a chance to do anything, and waits until it is gone.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Running reports whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// WaitExit waits until the process ended by itself and returns its exit code, -1 if a
// signal ended it. The test fails if it takes longer than limit.
func (p *Process) WaitExit(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		p.t.Fatalf("%s is still running after %v", p.name, limit)
		return 0
	}
}

// KilledBy is the signal that ended the process, 0 if it exited or still runs.
func (p *Process) KilledBy() syscall.Signal {
	if p.Running() {
		return 0
	}
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return 0
	}
	return status.Signal()
}

// Log is everything the process printed so far.
func (p *Process) Log() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return fmt.Sprintf("(no log of %s: %v)", filepath.Base(p.log), err)
	}
	return string(b)
}

// tail returns at most the last n bytes of s, from the beginning of a line.
func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	s = s[len(s)-n:]
	_, rest, _ := strings.Cut(s, "\n")
	return "…\n" + rest
}

// Until polls cond until it is true. The test fails with what if it takes longer than limit.
func Until(t testing.TB, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("after %v still not: %s", limit, what)
		}
		Tick(t)
	}
}

// Tick waits a moment between two looks at a child.
func Tick(t testing.TB) {
	select {
	case <-time.After(pollEvery):
	case <-t.Context().Done():
	}
}

// Progress waits until a count that only grows has grown by some.
func Progress(t testing.TB, limit time.Duration, what string, count func() int) {
	t.Helper()
	const some = 10
	first := count()
	Until(t, limit, fmt.Sprintf("%d more %s", some, what), func() bool { return count() >= first+some })
}
