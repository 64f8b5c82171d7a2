//go:build fault && linux

// Package fault_test is the process tier: real workers and real nats-servers as child
// processes, hurt on purpose. `make fault` runs it; docs/reliability.md has the matrix of
// faults, tests and results.
package fault_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rollcall/internal/app"
	"rollcall/internal/faulttest"
	"rollcall/internal/telemetry"
)

// program is the path of the worker binary, built once for the run as it is shipped.
var program string

func TestMain(m *testing.M) {
	faulttest.Role(map[string]func() int{"worker": hookedWorker})
	dir, err := os.MkdirTemp("", "rollcall-fault-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(dir, "worker")
	build := exec.Command("go", "build", "-o", program, "rollcall/cmd/worker")
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build the worker:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, faulttest.ServerLeftovers(), goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// hookedWorker is worker run with the hooks that the shipped binary does not have: it kills
// itself where [faulttest.CrashVariable] says.
func hookedWorker() int {
	probe, err := faulttest.CrashProbe()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	cfg, err := app.LoadRun(os.Environ())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	log := telemetry.NewLogger(cfg.Log, os.Stderr)
	if err := app.Run(context.Background(), cfg, log, app.Options{Probe: probe}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// How long a scenario waits for what must happen. Only a failing one waits that long.
const (
	patience = time.Minute
	// lease is ROLLCALL_ACK_WAIT of every scenario.
	lease = 2 * time.Second
)
