package faulttest

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// Env is the environment of a worker, by variable.
type Env map[string]string

// With returns a copy with some variables changed: name, value, name, value, …
func (e Env) With(pairs ...string) Env {
	merged := maps.Clone(e)
	for pair := range slices.Chunk(pairs, 2) {
		merged[pair[0]] = pair[1]
	}
	return merged
}

func (e Env) list() []string {
	list := make([]string, 0, len(e))
	for _, name := range slices.Sorted(maps.Keys(e)) {
		list = append(list, name+"="+e[name])
	}
	return list
}

// pageLimit is how long a page may take on a busy machine before it counts as no reply.
const pageLimit = 10 * time.Second

// Worker is one replica in a child process.
type Worker struct {
	*Process
	// HTTP is the URL of its health pages.
	HTTP string
}

// StartWorker starts one replica and returns without waiting for it. program is the path of
// the worker binary; "" starts the test binary in the role "worker", which the caller's
// TestMain must know. The child's environment is env and nothing else.
func StartWorker(t testing.TB, program, name string, env Env) *Worker {
	t.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", FreePort(t))
	list := env.With("ROLLCALL_HTTP_ADDR", addr).list()
	cmd := exec.Command(program, "run")
	cmd.Env = list
	if program == "" {
		cmd = Again("worker", list, "run")
	}
	return &Worker{Process: Start(t, name, cmd), HTTP: "http://" + addr}
}

// WaitReady waits until the replica says that it is ready.
func (w *Worker) WaitReady() {
	w.t.Helper()
	Until(w.t, startLimit, w.name+" is ready", func() bool {
		if !w.Running() {
			w.t.Fatalf("%s ended before it was ready", w.name)
		}
		return w.Ready()
	})
}

// Ready asks /readyz.
func (w *Worker) Ready() bool { return w.status("/readyz") == http.StatusOK }

// Alive asks /livez.
func (w *Worker) Alive() bool { return w.status("/livez") == http.StatusOK }

func (w *Worker) status(page string) int {
	status, _ := w.get(page)
	return status
}

// Page is what the worker serves there, with the status line; empty if it does not answer.
func (w *Worker) Page(page string) string {
	status, body := w.get(page)
	if status == 0 {
		return ""
	}
	return fmt.Sprintf("%d\n%s", status, body)
}

func (w *Worker) get(page string) (status int, body []byte) {
	client := http.Client{Timeout: pageLimit, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(w.HTTP + page)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil
	}
	return resp.StatusCode, body
}
