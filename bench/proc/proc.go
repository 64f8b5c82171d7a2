// Package proc runs the child processes of a benchmark and accounts for each of them apart:
// the processor time it used and the most memory it ever held. It works on Linux only,
// where the kernel reports both of a process that is still running.
package proc

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"
)

// stopGrace is how long a child may take to end after SIGTERM before it is killed.
const stopGrace = 10 * time.Second

// ErrExited reports that a child ended before it said that it was ready.
var ErrExited = errors.New("the process ended before it was ready")

// Spec says what to start.
type Spec struct {
	// Name is used in messages.
	Name string
	// Path of the executable.
	Path string
	Args []string
	// Env is the whole environment, as in [exec.Cmd].
	Env []string
}

// Process is a running child. Its owner must call Stop.
type Process struct {
	name   string
	cmd    *exec.Cmd
	cancel context.CancelFunc
	stdout *firstLine
	stderr *tail
	done   chan struct{}
	err    error
}

// Start runs a child that is killed when this process dies, and asked to end when ctx does.
func Start(ctx context.Context, spec Spec) (*Process, error) {
	ctx, cancel := context.WithCancel(ctx)
	p := &Process{
		name: spec.Name, cancel: cancel,
		stdout: newFirstLine(), stderr: &tail{}, done: make(chan struct{}),
	}
	p.cmd = exec.CommandContext(ctx, spec.Path, spec.Args...)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = spec.Env, p.stdout, p.stderr
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = stopGrace
	dieWithParent(p.cmd)
	if err := p.cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	return p, nil
}

// Ready waits for the first line that the child writes to its standard output and returns it.
func (p *Process) Ready(ctx context.Context) (string, error) {
	select {
	case line := <-p.stdout.line:
		return line, nil
	case <-p.done:
		return "", p.exited()
	case <-ctx.Done():
		return "", fmt.Errorf("wait for %s: %w", p.name, context.Cause(ctx))
	}
}

// PID returns the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err returns nil while the child runs, afterwards why it is gone, with the end of what it
// wrote to its standard error.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.exited()
	default:
		return nil
	}
}

func (p *Process) exited() error {
	return fmt.Errorf("%s: %w (%v): %s", p.name, ErrExited, p.cmd.ProcessState, p.stderr)
}

// CPU returns the processor time, user and system, that the child has used so far.
func (p *Process) CPU() (time.Duration, error) { return cpuTime(p.cmd.Process.Pid) }

// PeakRSS returns the most resident memory that the child has held so far, in bytes.
func (p *Process) PeakRSS() (int64, error) { return peakRSS(p.cmd.Process.Pid) }

// Stop ends the child, by SIGTERM and after ten seconds by SIGKILL, and waits for it. It
// returns an error when the child did not end well by itself.
func (p *Process) Stop() error {
	p.cancel()
	<-p.done
	if code := p.cmd.ProcessState.ExitCode(); code > 0 {
		return fmt.Errorf("stop %s: exit code %d: %s", p.name, code, p.stderr)
	}
	if s, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && s.Signaled() && s.Signal() == syscall.SIGKILL {
		return fmt.Errorf("stop %s: had to be killed: %s", p.name, p.stderr)
	}
	return nil
}
