package faulttest_test

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"rollcall/internal/faulttest"
)

// passer is a child that passes point a three times and point b once, on another thread than
// its first: the one that a signal to the process goes to.
func passer() int {
	probe, err := faulttest.CrashProbe()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if probe == nil {
		return 0
	}
	onOtherThread(func() {
		for _, point := range []string{"a", "b", "a", "a"} {
			probe(point)
			fmt.Println(point)
		}
	})
	return 0
}

// onOtherThread runs f on a thread that is not the first of the process.
func onOtherThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if unix.Gettid() == os.Getpid() {
			onOtherThread(f) // this goroutine keeps the first thread
			return
		}
		f()
	}()
	<-done
}

func pass(t *testing.T, crash string) *faulttest.Process {
	t.Helper()
	return faulttest.Start(t, "passer", faulttest.Again("passer", []string{faulttest.CrashVariable + "=" + crash}))
}

func TestCrashProbeKillsAtTheNthPassage(t *testing.T) {
	t.Parallel()
	p := pass(t, "a:2")
	p.WaitExit(soon)
	if p.KilledBy() != syscall.SIGKILL || p.Log() != "a\nb\n" {
		t.Errorf("ended by %v after %q, want SIGKILL at the second a", p.KilledBy(), p.Log())
	}
}

func TestCrashProbeStopsAndGoesOn(t *testing.T) {
	t.Parallel()
	p := pass(t, "b:1:stop")
	faulttest.Until(t, soon, "stopped at b", p.Paused)
	if p.Log() != "a\n" {
		t.Errorf("stopped after %q, want the first a", p.Log())
	}
	p.Resume()
	if code := p.WaitExit(soon); code != 0 || p.Log() != "a\nb\na\na\n" {
		t.Errorf("exit code %d after %q", code, p.Log())
	}
}

func TestCrashProbeIsOffAndStrict(t *testing.T) {
	t.Parallel()
	for crash, want := range map[string]int{"": 0, "a": 2, "a:0": 2, "a:x": 2, "a:1:jump": 2} {
		if code := pass(t, crash).WaitExit(soon); code != want {
			t.Errorf("%s=%q: exit code %d, want %d", faulttest.CrashVariable, crash, code, want)
		}
	}
}
