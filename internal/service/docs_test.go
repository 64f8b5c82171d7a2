package service_test

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

// snippets returns the code of one language in the page for service authors.
func snippets(t *testing.T, language string) []string {
	t.Helper()
	page, err := os.ReadFile("../../docs/services.md")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllSubmatch(page, -1) {
		found = append(found, string(m[1]))
	}
	return found
}

// save writes code to a file of its own.
func save(t *testing.T, name, code string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// runtimeOf returns the path of a program, or skips where the machine has none.
func runtimeOf(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("NOT TESTED: %s is not installed, so the page's snippet for it was not run", program)
	}
	return path
}

// start runs a service of the page and returns its URL once it listens.
func start(t *testing.T, command ...string) string {
	t.Helper()
	port := strconv.Itoa(faulttest.FreePort(t))
	address := net.JoinHostPort("127.0.0.1", port)
	var output bytes.Buffer
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "PORT="+port, "SECRET="+secretA)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the service said: %s", output.String())
		}
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-tick.C {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			return "http://" + address
		}
	}
	t.Fatalf("%v does not listen", command)
	return ""
}

// payments is a call for jobs of which the services of the page refuse all but the first: for
// what it says, and for being what no producer should have sent.
func payments() *jobs.Call {
	c := call(5)
	for i, body := range []string{`{"amount":100,"note":"grüße"}`, `{"amount":-1}`, `hello`, ``, `null`} {
		d := c.Jobs[i].Delivery
		d.Data = []byte(body)
		*c.Jobs[i] = jobs.Decode(d, 0)
	}
	c.Body = jobs.AppendCall(nil, c.Jobs)
	return c
}

// TestTheServicesOfThePageRun calls each with a good signature, with two during a rotation,
// with a wrong one and with an old one.
func TestTheServicesOfThePageRun(t *testing.T) {
	t.Parallel()
	for language, run := range map[string]func(t *testing.T) string{
		"go": func(t *testing.T) string {
			binary := filepath.Join(t.TempDir(), "service")
			build := exec.Command(runtimeOf(t, "go"), "build", "-o", binary, save(t, "main.go", snippets(t, "go")[1]))
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			return start(t, binary)
		},
		"node": func(t *testing.T) string {
			return start(t, runtimeOf(t, "node"), save(t, "service.js", snippets(t, "js")[0]))
		},
		"python": func(t *testing.T) string {
			return start(t, runtimeOf(t, "python3"), save(t, "service.py", snippets(t, "python")[0]))
		},
	} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			url := run(t)
			cfg := config()
			for _, secret := range []string{secretA, secretB + "," + secretA} {
				cfg.Secret = jobs.NewSecret(secret)
				r := newService(t, url, cfg, service.Deps{}).Call(t.Context(), payments())
				if r.Failure != nil || r.Replies[0].Status != ok {
					t.Fatalf("got %+v", r)
				}
				for i, says := range []string{"negative amount", "no amount", "no amount", "no amount"} {
					if reply := r.Replies[1+i]; reply.Status != fail || reply.Error != says {
						t.Errorf("job %d: got %+v, want it failed with %q", 1+i, reply, says)
					}
				}
			}
			for _, secret := range []string{"", secretB} {
				cfg.Secret = jobs.NewSecret(secret)
				want{reason: jobs.ReasonHTTP4xx, tries: 1, code: 401, wrong: true}.check(t, newService(t, url, cfg, service.Deps{}).Call(t.Context(), payments()))
			}
			refusesOldCalls(t, url)
		})
	}
}

// refusesOldCalls replays a call that was signed ten minutes ago.
func refusesOldCalls(t *testing.T, url string) {
	t.Helper()
	c := payments()
	for age, want := range map[time.Duration]int{0: http.StatusOK, 10 * time.Minute: http.StatusUnauthorized} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(c.Body))
		if err != nil {
			t.Fatal(err)
		}
		stamp, signature := service.Sign(secretA, c.Key, time.Now().Add(-age), c.Body)
		req.Header.Set("webhook-id", c.Key)
		req.Header.Set("webhook-timestamp", stamp)
		req.Header.Set("webhook-signature", signature)
		rt := &http.Transport{DisableKeepAlives: true}
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("a call signed %v ago: got %d, want %d", age, resp.StatusCode, want)
		}
	}
}

// TestTheMicroServiceOfThePageBuilds builds it against this module's nats.go.
func TestTheMicroServiceOfThePageBuilds(t *testing.T) {
	t.Parallel()
	code := snippets(t, "go")[0]
	if !strings.Contains(code, "micro.AddService") {
		t.Fatal("the first Go snippet of the page is not the micro service")
	}
	build := exec.Command(runtimeOf(t, "go"), "build", "-o", filepath.Join(t.TempDir(), "index"), save(t, "main.go", code))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
