//go:build linux

package proc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rollcall/bench/proc"
)

// childEnv makes the test binary play a child instead of running tests.
const childEnv = "PROC_TEST_CHILD"

func TestMain(m *testing.M) {
	if role := os.Getenv(childEnv); role != "" {
		os.Exit(child(role))
	}
	goleak.VerifyTestMain(m)
}

func child(role string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	switch role {
	case "fail":
		fmt.Fprintln(os.Stderr, strings.Repeat("noise ", 2000)+"the disk is full")
		return 3
	case "split":
		os.Stdout.WriteString("127.0.0.1:")
		os.Stdout.WriteString("4222\nmore\n")
	case "spin":
		n := 0
		for used() < 200*time.Millisecond {
			n++
		}
		fmt.Println(used().Nanoseconds(), n)
	case "grow":
		block := make([]byte, 64<<20)
		for i := range block {
			block[i] = byte(i)
		}
		fmt.Println(len(block))
	case "bad stop":
		fmt.Println("ready")
		<-ctx.Done()
		return 4
	case "parent":
		p, err := proc.Start(ctx, spec("wait"))
		if err != nil {
			return 1
		}
		line, err := p.Ready(ctx)
		fmt.Println(line, err)
	case "wait":
		fmt.Println(os.Getpid())
	}
	<-ctx.Done()
	return 0
}

// used is the processor time of this process, as it knows it itself.
func used() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func spec(role string) proc.Spec {
	return proc.Spec{Name: role, Path: os.Args[0], Env: append(os.Environ(), childEnv+"="+role)}
}

// start runs a child and returns its first line too.
func start(t *testing.T, role string) (*proc.Process, string) {
	t.Helper()
	p, err := proc.Start(t.Context(), spec(role))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop() })
	line, err := p.Ready(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p, line
}

func TestReadyGivesTheFirstLineEvenIfWrittenInParts(t *testing.T) {
	t.Parallel()
	if _, line := start(t, "split"); line != "127.0.0.1:4222" {
		t.Errorf("got the line %q", line)
	}
}

func TestReadyTellsWhyAChildEndedEarly(t *testing.T) {
	t.Parallel()
	p, err := proc.Start(t.Context(), spec("fail"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Ready(t.Context())
	if !errors.Is(err, proc.ErrExited) || !strings.Contains(err.Error(), "the disk is full") || len(err.Error()) > 5000 {
		t.Errorf("got %v, want the end of what the child wrote", err)
	}
	if !errors.Is(p.Err(), proc.ErrExited) {
		t.Errorf("Err = %v after the end", p.Err())
	}
	if err := p.Stop(); err == nil || !strings.Contains(err.Error(), "exit code 3") {
		t.Errorf("Stop = %v, want the exit code", err)
	}
}

func TestReadyEndsWithItsContext(t *testing.T) {
	t.Parallel()
	p, _ := start(t, "wait") // its one line is taken, so that there is nothing left to wait for
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := p.Ready(ctx); !errors.Is(err, why) {
		t.Errorf("got %v, want the cause", err)
	}
	if p.Err() != nil {
		t.Errorf("Err = %v of a child that runs", p.Err())
	}
}

func TestCPUCountsWhatTheChildUsed(t *testing.T) {
	t.Parallel()
	p, line := start(t, "spin")
	own, err := strconv.ParseInt(strings.Fields(line)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.CPU()
	if err != nil {
		t.Fatal(err)
	}
	// The child says it first and then goes on a little; a wrong clock is off by far more.
	if got < time.Duration(own) || got > time.Duration(own)+10*time.Second {
		t.Errorf("CPU = %s, the child itself says %s", got, time.Duration(own))
	}
}

func TestPeakRSSCountsWhatTheChildHeld(t *testing.T) {
	t.Parallel()
	p, _ := start(t, "grow")
	got, err := p.PeakRSS()
	if err != nil {
		t.Fatal(err)
	}
	if got < 64<<20 || got > 1<<30 {
		t.Errorf("PeakRSS = %d of a child that holds 64 MiB", got)
	}
}

func TestAccountsOfAnEndedChildAreErrors(t *testing.T) {
	t.Parallel()
	p, _ := start(t, "wait")
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.CPU(); err == nil {
		t.Error("CPU of an ended child is no error")
	}
	if _, err := p.PeakRSS(); err == nil {
		t.Error("PeakRSS of an ended child is no error")
	}
}

func TestStopReportsAChildThatEndsBadly(t *testing.T) {
	t.Parallel()
	p, _ := start(t, "bad stop")
	if err := p.Stop(); err == nil || !strings.Contains(err.Error(), "exit code 4") {
		t.Errorf("Stop = %v, want the exit code", err)
	}
}

func TestAChildEndsWithTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	p, err := proc.Start(ctx, spec("wait"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-p.Done()
}

func TestAChildDiesWithItsParent(t *testing.T) {
	t.Parallel()
	parent, line := start(t, "parent")
	pid, err := strconv.Atoi(strings.Fields(line)[0])
	if err != nil {
		t.Fatalf("read the grandchild's id in %q: %v", line, err)
	}
	if err := syscall.Kill(parent.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for running(pid) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlived its parent", pid)
		}
	}
}

// running reports whether a process runs; an unreaped one does not.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestStartFailsWithoutAProgram(t *testing.T) {
	t.Parallel()
	if _, err := proc.Start(t.Context(), proc.Spec{Name: "ghost", Path: "/does/not/exist"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want that there is no such file", err)
	}
}
