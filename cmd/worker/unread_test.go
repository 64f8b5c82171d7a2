package main

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"rollcall/internal/faulttest"
)

// childWithPipe starts the program as a process of its own, with its log going to a pipe.
func childWithPipe(t *testing.T, url string, service *faulttest.Recorder, env ...string) (w *faulttest.Worker, log *os.File) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = read.Close() }) // the test may have closed it
	addr := fmt.Sprintf("127.0.0.1:%d", faulttest.FreePort(t))
	cmd := faulttest.Again("worker", append([]string{
		"NATS_URL=" + url, "ROLLCALL_SERVICES=" + service.Name + "=" + service.URL(), "ROLLCALL_HTTP_ADDR=" + addr,
	}, env...), "run")
	cmd.Stderr = write
	process := faulttest.Start(t, "worker", cmd)
	if err := write.Close(); err != nil {
		t.Fatal(err)
	}
	return &faulttest.Worker{Process: process, HTTP: "http://" + addr}, read
}

func TestAWorkerWhoseLogIsCutOffGoesOnAndDrains(t *testing.T) {
	t.Parallel()
	url := broker(t)
	billing := faulttest.StartRecorder(t, "billing")
	w, log := childWithPipe(t, url, billing, "ROLLCALL_LOG_LEVEL=debug")
	// As `worker run 2>&1 | head -1` does.
	if _, err := bufio.NewReader(log).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	w.WaitReady()
	load := faulttest.NewLoad(t, streams(t, url), "JOBS", "jobs.test")
	load.Publish(50, limit)
	faulttest.Until(t, limit, "the jobs reach the service", func() bool { return billing.Count() > 0 })
	w.Signal(syscall.SIGTERM)
	if code := w.WaitExit(limit); code != codeOK {
		t.Errorf("exit %d, want 0", code)
	}
}

func TestAnUnreadLogDoesNotHoldUpTheDrain(t *testing.T) {
	t.Parallel()
	url := broker(t)
	billing := faulttest.StartRecorder(t, "billing")
	w, _ := childWithPipe(t, url, billing, "ROLLCALL_LOG_LEVEL=debug", "ROLLCALL_DRAIN_TIMEOUT=2s", "ROLLCALL_BATCH_SIZE=1")
	w.WaitReady()
	load := faulttest.NewLoad(t, streams(t, url), "JOBS", "jobs.test")
	const jobs = 3000 // with a line of log each: far more than a pipe holds
	load.Publish(jobs, limit)
	faulttest.Until(t, limit, "every job reaches the service, though nobody reads the log", func() bool { return billing.Count() >= jobs })
	faulttest.Until(t, 10*time.Second, "lines are dropped and counted", func() bool {
		return strings.Contains(w.Page("/metrics"), "rollcall_log_lines_dropped_total") &&
			!strings.Contains(w.Page("/metrics"), "rollcall_log_lines_dropped_total 0\n")
	})
	w.Signal(syscall.SIGTERM)
	if code := w.WaitExit(15 * time.Second); code != codeOK {
		t.Errorf("exit %d, want 0", code)
	}
}

func TestAHangUpDrains(t *testing.T) {
	t.Parallel()
	hangUps := make(chan os.Signal, 1)
	signal.Notify(hangUps, syscall.SIGHUP) // the children of a test under nohup would ignore it
	t.Cleanup(func() { signal.Stop(hangUps) })
	url := broker(t)
	w := child(t, url, faulttest.StartRecorder(t, "billing"))
	w.Signal(syscall.SIGHUP)
	w.Signal(syscall.SIGHUP) // a terminal that closes sends it, and so does its shell
	if code := w.WaitExit(limit); code != codeOK {
		t.Errorf("exit %d, want 0", code)
	}
}
