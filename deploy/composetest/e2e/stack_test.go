//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rollcall/internal/faulttest"
)

const (
	project = "rollcall-e2e"
	// patience bounds a single docker command. The longest is a stop, which may take all of
	// the grace period.
	patience = 3 * time.Minute
)

// stack is the compose file under a project name and ports of its own, beside whatever else
// runs on this machine.
type stack struct {
	t    *testing.T
	env  []string
	nats string
	dead *deaths
}

// newStack takes ports and promises to leave nothing behind. env is added to what Compose sees.
func newStack(t *testing.T, env ...string) *stack {
	t.Helper()
	port, monitor := strconv.Itoa(faulttest.FreePort(t)), strconv.Itoa(faulttest.FreePort(t))
	s := &stack{t: t, nats: "nats://127.0.0.1:" + port}
	s.env = append(append(os.Environ(), env...),
		"COMPOSE_PROJECT_NAME="+project, "COMPOSE_FILE=../../../docker-compose.yml", "COMPOSE_ANSI=never", "COMPOSE_PROGRESS=quiet",
		"NATS_PORT="+port, "NATS_MONITOR_PORT="+monitor, "WORKER_PORTS=18080-18119")
	t.Cleanup(s.remove)
	s.remove() // what an interrupted run left
	s.dead = watchDeaths(t)
	return s
}

// remove takes everything down, and logs the containers' output if the test failed.
func (s *stack) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if s.t.Failed() {
		logs, _ := s.command(ctx, "docker", "compose", "logs", "--no-color", "--tail=40").CombinedOutput()
		s.t.Logf("the last words of each container:\n%s", logs)
	}
	out, err := s.command(ctx, "docker", "compose", "--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout=5").CombinedOutput()
	if err != nil {
		s.t.Errorf("take everything down: %v\n%s", err, out)
	}
}

func (s *stack) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = s.env
	return cmd
}

// try runs docker and returns what it printed on standard output.
func (s *stack) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := s.command(ctx, "docker", args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("docker %s: %w\n%s%s", strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return strings.TrimSpace(stdout.String()), nil
}

// docker runs docker, which must succeed.
func (s *stack) docker(args ...string) string {
	s.t.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// up starts everything and returns when it is ready.
func (s *stack) up(args ...string) {
	s.t.Helper()
	args = append([]string{"compose", "up", "--detach", "--no-build", "--wait", "--wait-timeout=120"}, args...)
	// --wait gives up on a container that is unhealthy at that moment. A worker is, for as long
	// as the broker restarts or elects a leader, and gets well by itself.
	eventually(s.t, 2*time.Minute, func() error {
		_, err := s.try(args...)
		return err
	})
}

// compose runs docker compose, which must succeed.
func (s *stack) compose(args ...string) string {
	s.t.Helper()
	return s.docker(append([]string{"compose"}, args...)...)
}

// scale makes it n workers and returns when all of them are ready.
func (s *stack) scale(n int) {
	s.t.Helper()
	s.up("--no-recreate", "--scale", "worker="+strconv.Itoa(n))
	if got := s.workers(); len(got) != n {
		s.t.Fatalf("asked for %d workers, have %v", n, got)
	}
}

// workers are the ids of the running worker containers.
func (s *stack) workers() []string {
	s.t.Helper()
	return strings.Fields(s.compose("ps", "--quiet", "--status=running", "worker"))
}

// inspect asks the engine for one field of a container.
func (s *stack) inspect(container, field string) string {
	s.t.Helper()
	return s.docker("inspect", "--format", "{{"+field+"}}", container)
}

// death is the end of one container's process.
type death struct {
	service, id string
	code        int
}

// deaths notes the end of every container of the project: one that is scaled away is removed,
// and its exit code with it.
type deaths struct {
	mu    sync.Mutex
	noted []death
}

// watchDeaths listens to the engine until the test ends.
func watchDeaths(t *testing.T) *deaths {
	t.Helper()
	d := &deaths{}
	cmd := exec.CommandContext(t.Context(), "docker", "events", "--format", "{{json .Actor}}",
		"--filter", "event=die", "--filter", "label=com.docker.compose.project="+project)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for events := json.NewDecoder(out); ; {
			var actor struct {
				ID         string
				Attributes map[string]string
			}
			if events.Decode(&actor) != nil {
				return // the stream ends with the test
			}
			code, err := strconv.Atoi(actor.Attributes["exitCode"])
			if err != nil {
				code = -1
			}
			d.note(death{actor.Attributes["com.docker.compose.service"], actor.ID, code})
		}
	}()
	t.Cleanup(func() {
		<-done
		_ = cmd.Wait() // ended by the context
	})
	return d
}

func (d *deaths) note(x death) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.noted = append(d.noted, x)
}

// of returns the deaths of a service so far.
func (d *deaths) of(service string) []death {
	d.mu.Lock()
	defer d.mu.Unlock()
	var found []death
	for _, x := range d.noted {
		if x.service == service {
			found = append(found, x)
		}
	}
	return found
}

// eventually waits until check has nothing to object.
func eventually(t *testing.T, limit time.Duration, check func() error) {
	t.Helper()
	deadline := time.After(limit)
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("after %v still: %v", limit, err)
		}
	}
}
