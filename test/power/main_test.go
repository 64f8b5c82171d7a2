//go:build linux

// Package power_test cuts the power of brokers: their stores are on a file system that forgets
// what was not synced (package forgetful). `make power` runs it, in a module of its own, so that
// the product does not depend on FUSE.
package power_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"rollcall/internal/faulttest"
	"rollcall/test/power/forgetful"
)

// program is the path of the worker binary, built once for the run as it is shipped.
var program string

func TestMain(m *testing.M) {
	faulttest.Role(map[string]func() int{roleDisk: serveDisk})
	dir, err := os.MkdirTemp("", "rollcall-power-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(dir, "worker")
	build := exec.Command("go", "build", "-o", program, "./cmd/worker")
	build.Dir = "../.." // with the module's own go.sum
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build the worker:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// serveDisk is the process that a power cut kills.
func serveDisk() int {
	if err := forgetful.Serve(os.Args[1], os.Args[2], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
