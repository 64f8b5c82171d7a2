package faulttest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// CrashVariable says where a worker of the test binary kills itself: "<point>:<n>", at the
// nth time that the point is passed.
const CrashVariable = "FAULTTEST_CRASH"

// CrashProbe returns a probe for the pool that does what [CrashVariable] says; nil if it is
// not set. The process ends by SIGKILL: no deferred function runs, no buffer is flushed.
func CrashProbe() (func(point string), error) {
	text := os.Getenv(CrashVariable)
	if text == "" {
		return nil, nil
	}
	wanted, count, _ := strings.Cut(text, ":")
	nth, err := strconv.ParseInt(count, 10, 64)
	if err != nil || nth < 1 {
		return nil, fmt.Errorf("%s is %q, want <point>:<n>", CrashVariable, text)
	}
	var passed atomic.Int64
	return func(point string) {
		if point == wanted && passed.Add(1) == nth {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way; nothing more may happen here
		}
	}, nil
}
