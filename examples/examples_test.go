// Package examples_test runs every example against a pool.
package examples_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"rollcall/internal/app"
	"rollcall/internal/devkit"
	"rollcall/internal/devkit/devkittest"
	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

const (
	// limit bounds everything that has to happen, builds and downloads included.
	limit  = 5 * time.Minute
	secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	// natscli is what provides the command nats.
	natscli = "github.com/nats-io/natscli/nats@v0.5.0"
)

// tool returns the path of a program, or skips and says what is not tested.
func tool(t *testing.T, name, what string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("NOT TESTED: %s; %s is not installed", what, name)
	}
	return path
}

// run runs a command to its end and returns what it printed, or skips where that is said to be allowed.
func run(t *testing.T, notTested, dir string, env []string, command ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil && notTested != "":
		t.Skipf("NOT TESTED: %s; %v: %v\n%s", notTested, command, err, out)
	case err != nil:
		t.Fatalf("%v: %v\n%s", command, err, out)
	}
	return string(out)
}

// goProgram builds an example.
func goProgram(t *testing.T, pkg string) []string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "example")
	run(t, "", ".", nil, "go", "build", "-o", binary, pkg)
	return []string{binary}
}

// serve starts a service and returns its URL once it listens.
func serve(t *testing.T, command ...string) string {
	t.Helper()
	port := strconv.Itoa(faulttest.FreePort(t))
	var out bytes.Buffer
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "PORT="+port, "SECRET="+secret)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%v said: %s", command, out.String())
		}
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); <-tick.C {
		if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			_ = c.Close()
			return "http://127.0.0.1:" + port + "/jobs"
		}
	}
	t.Fatalf("%v does not listen", command)
	return ""
}

// services are the commands of the examples of services.
var services = map[string]func(t *testing.T) []string{
	"go": func(t *testing.T) []string { return goProgram(t, "./services/go") },
	"node": func(t *testing.T) []string {
		return []string{tool(t, "node", "the service in Node"), "services/node/service.js"}
	},
	"python": func(t *testing.T) []string {
		return []string{tool(t, "python3", "the service in Python"), "services/python/service.py"}
	},
}

// TestServices lets the conformance check judge each service: nothing is wrong, and of what costs
// something there is only the reminder of ids that are used again.
func TestServices(t *testing.T) {
	t.Parallel()
	for name, command := range services {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := service.Config{Timeout: 30 * time.Second, Tries: 1, Concurrency: 1, MaxReply: jobs.MiB, Method: http.MethodPost, Secret: jobs.NewSecret(secret)}
			ref := service.Ref{Name: name, URL: serve(t, command(t)...)}
			findings, err := ref.Check(t.Context(), cfg, service.Deps{RetryMax: time.Minute}, service.Sample{Data: []byte(`{"amount":100}`), BatchSize: 96, BatchBytes: jobs.MiB})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range findings {
				if f.Grade != service.Good && f.Check != "id used again" {
					t.Errorf("%+v", f)
				}
			}
			if len(findings) < 10 {
				t.Errorf("only %d checks were made: %+v", len(findings), findings)
			}
		})
	}
}

// stage is a broker and a pool over all services that this machine can run.
type stage struct {
	url string

	mu    sync.Mutex
	final map[string]jobs.EventJob
}

func newStage(t *testing.T) *stage {
	t.Helper()
	server := devkittest.Start(t, devkit.Options{Dir: t.TempDir()})
	s := &stage{url: server.URL(), final: map[string]jobs.EventJob{}}
	nc, err := nats.Connect(s.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if _, err := nc.Subscribe("batches.>", s.hear); err != nil {
		t.Fatal(err)
	}
	env := []string{"NATS_URL=" + s.url, "ROLLCALL_HTTP_ADDR=127.0.0.1:0", "ROLLCALL_SERVICES="}
	for _, name := range []string{"go", "node", "python"} {
		if name != "go" {
			if _, err := exec.LookPath(map[string]string{"node": "node", "python": "python3"}[name]); err != nil {
				continue // TestServices says so
			}
		}
		env[2] += name + "=" + serve(t, services[name](t)...) + ","
		env = append(env, "ROLLCALL_SVC_"+strings.ToUpper(name)+"_SECRET="+secret)
	}
	cfg, err := app.LoadRun(env)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Setup(t.Context(), cfg, zerolog.Nop(), app.Options{}, false); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx, cfg, zerolog.Nop(), app.Options{Replica: "r1"}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// hear notes which jobs are final.
func (s *stage) hear(m *nats.Msg) {
	event, err := jobs.DecodeEvent(m.Data)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range event.Data.Jobs {
		if j.Final() {
			s.final[j.ID] = j
		}
	}
}

// end waits until a job is final.
func (s *stage) end(t *testing.T, id string) jobs.EventJob {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); <-tick.C {
		s.mu.Lock()
		j, done := s.final[id]
		s.mu.Unlock()
		if done {
			return j
		}
	}
	t.Fatalf("the job %s did not end within %v", id, limit)
	return jobs.EventJob{}
}

// producers are the examples of producers: the command that SUBJECT, ID and BODY are given to, and
// where it runs.
var producers = map[string]func(t *testing.T) (command []string, dir string){
	"go": func(t *testing.T) ([]string, string) { return goProgram(t, "./producers/go"), "." },
	"node": func(t *testing.T) ([]string, string) {
		node, npm := tool(t, "node", "the producer in Node"), tool(t, "npm", "the producer in Node")
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS("producers/node")); err != nil {
			t.Fatal(err)
		}
		run(t, "the producer in Node", dir, nil, npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
		return []string{node, "publish.js"}, dir
	},
	"python": func(t *testing.T) ([]string, string) {
		return []string{tool(t, "python3", "the producer in Python"), "producers/python/publish.py"}, "."
	},
	"cli": func(t *testing.T) ([]string, string) {
		sh := tool(t, "sh", "the producer by the nats CLI")
		if _, err := exec.LookPath("nats"); err != nil {
			bin := t.TempDir()
			run(t, "the producer by the nats CLI", ".", []string{"GOBIN=" + bin}, "go", "install", natscli)
			return []string{"env", "PATH=" + bin + ":" + os.Getenv("PATH"), sh, "producers/cli/publish.sh"}, "."
		}
		return []string{sh, "producers/cli/publish.sh"}, "."
	},
}

// TestProducers lets each producer publish a job twice, and one that the services refuse: the pool
// ends both, and the first was one job. A subject that no stream takes is an error.
func TestProducers(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	t.Run("all", func(t *testing.T) {
		for name, prepare := range producers {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				command, dir := prepare(t)
				publish := func(subject, id, body string) string {
					return run(t, "", dir, []string{"NATS_URL=" + s.url}, append(slices.Clip(command), subject, id, body)...)
				}
				for _, duplicate := range []bool{false, true} {
					out := strings.ToLower(publish("jobs.order", name+"-1", `{"amount":100,"note":"grüße {{ }}"}`))
					says := strings.Contains(out, fmt.Sprintf("duplicate %t", duplicate)) || strings.Contains(out, fmt.Sprintf("duplicate: %t", duplicate))
					if name != "cli" && !says || name == "cli" && duplicate != strings.Contains(out, "duplicate") {
						t.Errorf("published, duplicate %t: it said %s", duplicate, out)
					}
				}
				publish("jobs.order", name+"-2", `{"amount":-1}`)
				if j := s.end(t, name+"-1"); j.Outcome != jobs.Succeeded {
					t.Errorf("the job ended %+v", j)
				}
				if j := s.end(t, name+"-2"); j.Outcome != jobs.Failed || j.Reason != "negative amount" {
					t.Errorf("the job that is refused ended %+v", j)
				}
				lost := exec.CommandContext(t.Context(), command[0], append(slices.Clip(command[1:]), "nobody.listens", "x", "{}")...)
				lost.Dir, lost.Env = dir, append(os.Environ(), "NATS_URL="+s.url)
				if out, err := lost.CombinedOutput(); err == nil {
					t.Errorf("a job that no stream takes counts as published: %s", out)
				}
			})
		}
	})
}

// TestTheServicesPageShowsTheExamples: the services of the page are those of this folder.
func TestTheServicesPageShowsTheExamples(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/services.md")
	if err != nil {
		t.Fatal(err)
	}
	for file, language := range map[string]string{"services/go/main.go": "go", "services/node/service.js": "js", "services/python/service.py": "python"} {
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(page), "```"+language+"\n"+string(code)+"```") {
			t.Errorf("docs/services.md does not show %s as it is", file)
		}
	}
}
