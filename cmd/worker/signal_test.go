package main

import (
	"syscall"
	"testing"

	"rollcall/internal/faulttest"
)

// child starts the program as a process of its own: signals go to whole processes.
func child(t *testing.T, url string, service *faulttest.Recorder) *faulttest.Worker {
	t.Helper()
	w := faulttest.StartWorker(t, "", "worker", faulttest.Env{
		"NATS_URL": url, "ROLLCALL_SERVICES": service.Name + "=" + service.URL(), "ROLLCALL_DRAIN_TIMEOUT": "1h",
	})
	w.WaitReady()
	return w
}

func TestASignalStopsTheWorkerInGoodOrder(t *testing.T) {
	t.Parallel()
	url := broker(t)
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		w := child(t, url, faulttest.StartRecorder(t, "billing"))
		w.Signal(signal)
		if code := w.WaitExit(limit); code != codeOK {
			t.Errorf("%v: exit %d, want 0", signal, code)
		}
	}
}

func TestASecondSignalLeavesAtOnce(t *testing.T) {
	t.Parallel()
	url := broker(t)
	js := streams(t, url)
	stuck := faulttest.StartRecorder(t, "billing")
	stuck.Hang()
	load := faulttest.NewLoad(t, js, "JOBS", "jobs.test")
	w := child(t, url, stuck)
	load.Publish(1, limit)
	faulttest.Until(t, limit, "the service is called", func() bool { return stuck.Count() > 0 })
	w.Signal(syscall.SIGTERM)
	faulttest.Until(t, limit, "the worker drains", func() bool { return !w.Ready() })
	if !w.Running() {
		t.Fatal("the first signal did not wait for the call under way")
	}
	w.Signal(syscall.SIGTERM)
	if code := w.WaitExit(limit); code != codeFailed {
		t.Errorf("exit %d, want %d", code, codeFailed)
	}
}
