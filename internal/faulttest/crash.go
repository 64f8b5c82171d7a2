package faulttest

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// CrashVariable says where a worker of the test binary kills itself, "<point>:<n>", at the
// nth time that the point is passed; "<point>:<n>:stop" makes it stop instead, until somebody
// lets it go on.
const CrashVariable = "FAULTTEST_CRASH"

// CrashProbe returns a probe for the pool that does what [CrashVariable] says; nil if it is
// not set. A kill is a SIGKILL: no deferred function runs, no buffer is flushed.
func CrashProbe() (func(point string), error) {
	text := os.Getenv(CrashVariable)
	if text == "" {
		return nil, nil
	}
	parts := strings.Split(text, ":")
	sig := syscall.SIGKILL
	if len(parts) == 3 && parts[2] == "stop" {
		sig, parts = syscall.SIGSTOP, parts[:2]
	}
	var nth int64
	var err error
	if len(parts) == 2 {
		nth, err = strconv.ParseInt(parts[1], 10, 64)
	}
	if err != nil || nth < 1 {
		return nil, fmt.Errorf("%s is %q, want <point>:<n> or <point>:<n>:stop", CrashVariable, text)
	}
	var passed atomic.Int64
	return func(point string) {
		if point == parts[0] && passed.Add(1) == nth {
			signalSelf(sig)
		}
	}, nil
}

// signalSelf ends or stops the process before it returns. The signal goes to the thread that
// calls (tgkill(2)): one to the process is taken by its first thread if that can (complete_signal
// in Linux's kernel/signal.c), and this thread would go on until the first one woke.
func signalSelf(sig syscall.Signal) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Tgkill(os.Getpid(), unix.Gettid(), sig)
}
