package faulttest_test

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"rollcall/internal/faulttest"
)

// sleeper is a child that does nothing until it is killed.
func sleeper() int {
	fmt.Println("sleeping")
	select {}
}

// printer is a child that prints its arguments and exits with the code of the first.
func printer() int {
	fmt.Println(strings.Join(os.Args[1:], " "), os.Getenv("GREETING"))
	code, _ := strconv.Atoi(os.Args[1])
	return code
}

// strayTB stands in for a test in a process that is no test.
type strayTB struct{ testing.TB }

func (strayTB) Helper()                   {}
func (strayTB) Cleanup(func())            {}
func (strayTB) TempDir() string           { return os.TempDir() }
func (strayTB) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

// parent is a child with a child of its own, whose process id it prints.
func parent() int {
	fmt.Println(faulttest.Start(strayTB{}, "grandchild", faulttest.Again("sleeper", nil)).PID())
	select {}
}

func start(t *testing.T, role string, args ...string) *faulttest.Process {
	t.Helper()
	return faulttest.Start(t, role, faulttest.Again(role, []string{"GREETING=hi"}, args...))
}

func TestProcessExitCodeAndLog(t *testing.T) {
	t.Parallel()
	p := start(t, "printer", "3", "two words")
	if code := p.WaitExit(soon); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	if got, want := p.Log(), "3 two words hi\n"; got != want {
		t.Errorf("log %q, want %q", got, want)
	}
	if p.Running() || p.KilledBy() != 0 {
		t.Errorf("after its exit: running %v, killed by %v", p.Running(), p.KilledBy())
	}
}

func TestProcessKill(t *testing.T) {
	t.Parallel()
	p := start(t, "sleeper")
	if !p.Running() || p.KilledBy() != 0 {
		t.Fatal("a child that sleeps is not running")
	}
	p.Kill()
	p.Kill() // again is harmless
	if p.Running() || p.KilledBy() != syscall.SIGKILL {
		t.Errorf("after Kill: running %v, killed by %v", p.Running(), p.KilledBy())
	}
	if code := p.WaitExit(soon); code != -1 {
		t.Errorf("exit code of a killed process %d, want -1", code)
	}
}

func TestProcessPauseAndResume(t *testing.T) {
	t.Parallel()
	p := start(t, "sleeper")
	p.Pause()
	faulttest.Until(t, soon, "paused", p.Paused)
	p.Resume()
	faulttest.Until(t, soon, "running again", func() bool { return !p.Paused() })
	p.Pause()
	p.Kill() // a paused process can be killed
}

func TestProcessUsage(t *testing.T) {
	t.Parallel()
	p := start(t, "sleeper")
	faulttest.Until(t, soon, "the child is up", func() bool { return p.Log() != "" })
	rss, peak := p.RSS(), p.PeakRSS()
	if rss < 1<<20 || rss > 1<<30 || peak < rss {
		t.Errorf("resident %d bytes, peak %d", rss, peak)
	}
	if cpu := p.CPU(); cpu < 0 || cpu > soon {
		t.Errorf("a sleeper used %v of processor time", cpu)
	}
}

func TestChildrenDieWithTheTestProcess(t *testing.T) {
	t.Parallel()
	p := start(t, "parent")
	var grandchild int
	faulttest.Until(t, soon, "the grandchild is up", func() bool {
		line, _, complete := strings.Cut(p.Log(), "\n")
		pid, err := strconv.Atoi(line)
		grandchild = pid
		return complete && err == nil
	})
	if err := syscall.Kill(grandchild, 0); err != nil {
		t.Fatalf("the grandchild is not there: %v", err)
	}
	p.Kill()
	faulttest.Until(t, soon, "the grandchild is gone", func() bool {
		return !alive(grandchild)
	})
}

// alive reports whether a process runs: it is neither gone nor a zombie.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

func TestUntilReturnsAsSoonAsTrue(t *testing.T) {
	t.Parallel()
	n := 0
	faulttest.Until(t, time.Minute, "third time", func() bool { n++; return n == 3 })
	if n != 3 {
		t.Errorf("polled %d times, want 3", n)
	}
}

// failingTB takes a failure instead of the test.
type failingTB struct {
	testing.TB
	failed bool
}

func (f *failingTB) Helper()               {}
func (f *failingTB) Fatalf(string, ...any) { f.failed = true; runtime.Goexit() }

// fails reports whether f fails the test it is given.
func fails(t *testing.T, f func(testing.TB)) bool {
	t.Helper()
	tb := &failingTB{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(tb)
	}()
	<-done
	return tb.failed
}

func TestUntilFailsAtItsLimit(t *testing.T) {
	t.Parallel()
	if !fails(t, func(tb testing.TB) { faulttest.Until(tb, quiet, "never", func() bool { return false }) }) {
		t.Error("a condition that never came true failed nothing")
	}
}

func TestWaitExitFailsAtItsLimit(t *testing.T) {
	t.Parallel()
	if !fails(t, func(tb testing.TB) {
		faulttest.Start(tb, "sleeper", faulttest.Again("sleeper", nil)).WaitExit(quiet)
	}) {
		t.Error("a process that never ends failed nothing")
	}
}
