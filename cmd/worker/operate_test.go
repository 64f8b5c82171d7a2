package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rollcall/internal/devkit"
	"rollcall/internal/devkit/devkittest"
	"rollcall/internal/settings"
)

// broker starts a nats-server with JetStream for this test alone and returns its URL.
func broker(t *testing.T) string {
	t.Helper()
	server := devkittest.Start(t, devkit.Options{Dir: t.TempDir()})
	return server.URL()
}

// decode reads the data that a command printed.
func decode[T any](t *testing.T, r result) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil {
		t.Fatalf("exit %d, stdout %q, stderr %q: %v", r.code, r.stdout, r.stderr, err)
	}
	return v
}

// statuses maps the objects in the output of setup to what is said of them.
func statuses(t *testing.T, r result) map[string]string {
	t.Helper()
	if r.code != codeOK {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	found := map[string]string{}
	for _, s := range decode[[]step](t, r) {
		found[s.Object] += s.Status + s.Field
	}
	return found
}

func TestSetupCreatesWhatIsMissingOnce(t *testing.T) {
	t.Parallel()
	// As in a replica's container: replicas make nothing there, and whoever is on call does.
	env := []string{"NATS_URL=" + broker(t), "ROLLCALL_POOL=mail", "ROLLCALL_ENSURE=false"}
	objects := []string{"stream JOBS", "stream DONE", "stream DEAD", "consumer JOBS/mail"}

	for range 2 { // a dry run changes nothing, so the second finds the same
		dry := statuses(t, worker(t, env, "setup", "--dry-run", "-o", "json"))
		for _, object := range objects {
			if dry[object] != "missing" {
				t.Errorf("dry run: %s is %q, want missing", object, dry[object])
			}
		}
	}
	done := statuses(t, worker(t, env, "setup", "-o", "json"))
	for _, object := range objects {
		if done[object] != "created" {
			t.Errorf("%s is %q, want created", object, done[object])
		}
	}
	again := worker(t, env, "setup", "-o", "json")
	if got := statuses(t, again); len(got) != 0 || !strings.Contains(again.stderr, "as it should be") {
		t.Errorf("the second setup did %v and said %q, want nothing to do", got, again.stderr)
	}
	if table := worker(t, env, "setup"); table.stdout != "" || table.code != codeOK {
		t.Errorf("exit %d, stdout %q, want an empty table without its head", table.code, table.stdout)
	}
}

func TestSetupForSubjectsOfAnotherStreamSaysWhatMendsIt(t *testing.T) {
	t.Parallel()
	url := broker(t)
	if made := worker(t, []string{"NATS_URL=" + url}, "setup"); made.code != codeOK {
		t.Fatal(made.stderr)
	}
	got := worker(t, []string{"NATS_URL=" + url, "ROLLCALL_POOL=mail", "ROLLCALL_SUBJECTS=mail.*"}, "setup", "--dry-run")
	if !strings.Contains(got.stdout, "mail.* are not stored") || !strings.Contains(got.stdout, "ROLLCALL_STREAM") {
		t.Errorf("got %q", got.stdout)
	}
}

func TestAnyOfSeveralServersWillDo(t *testing.T) {
	t.Parallel()
	got := worker(t, []string{"NATS_URL=nats://127.0.0.1:1, " + broker(t)}, "setup")
	if got.code != codeOK || !strings.Contains(got.stdout, "created") {
		t.Errorf("got %+v", got)
	}
}

func TestSetupReportsDriftAndChangesNothing(t *testing.T) {
	t.Parallel()
	url := broker(t)
	if made := worker(t, []string{"NATS_URL=" + url, "ROLLCALL_ACK_WAIT=10s"}, "setup"); made.code != codeOK {
		t.Fatal(made.stderr)
	}
	env := []string{"NATS_URL=" + url}
	for _, args := range [][]string{{"setup", "--dry-run", "-o", "json"}, {"setup", "-o", "json"}, {"setup", "-o", "json"}} {
		steps := decode[[]step](t, worker(t, env, args...))
		if len(steps) != 1 || steps[0].Status != "differs" || steps[0].Object != "consumer JOBS/default" || !strings.Contains(steps[0].Have, "10s") || !strings.Contains(steps[0].Want, "30s") {
			t.Errorf("%v: got %+v, want the ack wait of the consumer to differ", args, steps)
		}
	}
}

func TestUnreachableBrokerExitsFive(t *testing.T) {
	t.Parallel()
	got := worker(t, []string{"NATS_URL=nats://ann:hunter2@127.0.0.1:1"}, "setup")
	if got.code != codeUnreachable || !strings.Contains(got.stderr, "127.0.0.1:1") || !strings.Contains(got.stderr, "NATS_URL") {
		t.Errorf("exit %d, stderr %q; want 5 and the address", got.code, got.stderr)
	}
	if strings.Contains(got.stderr, "hunter2") {
		t.Errorf("the password shows in %q", got.stderr)
	}
}

func TestMissingStreamExitsFour(t *testing.T) {
	t.Parallel()
	env := []string{"NATS_URL=" + broker(t), "ROLLCALL_ENSURE=false", "ROLLCALL_SERVICES=billing=http://billing/jobs", "ROLLCALL_HTTP_ADDR=127.0.0.1:0"}
	got := worker(t, env, "run")
	if got.code != codeNotFound || !strings.Contains(got.stderr, "stream JOBS") || !strings.Contains(got.stderr, "ROLLCALL_ENSURE") {
		t.Errorf("exit %d, stderr %q; want 4 and what is missing", got.code, got.stderr)
	}
	if made := worker(t, env, "setup"); made.code != codeOK {
		t.Errorf("setup, which is there to make it: exit %d, stderr %q", made.code, made.stderr)
	}
}

func TestConfigListsSettingsAndEveryFault(t *testing.T) {
	t.Parallel()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"ROLLCALL_SERVICES=billing=http://billing/jobs", "ROLLCALL_POOL=mail", "NATS_TOKEN_FILE=" + token}
	good := worker(t, env, "config", "-o", "json")
	if good.code != codeOK || good.stderr != "" || strings.Contains(good.stdout, "hunter2") {
		t.Errorf("exit %d, stderr %q, secret shown: %t", good.code, good.stderr, strings.Contains(good.stdout, "hunter2"))
	}
	found := map[string]settings.Setting{}
	for _, s := range decode[[]settings.Setting](t, good) {
		found[s.Name] = s
	}
	if s := found["ROLLCALL_POOL"]; s.Value != "mail" || s.Source != "env" {
		t.Errorf("ROLLCALL_POOL: got %+v", s)
	}
	if s := found["NATS_TOKEN"]; s.Value != "***" || s.Source != "file" || !s.Secret {
		t.Errorf("NATS_TOKEN: got %+v", s)
	}
	if table := worker(t, env, "config"); !strings.Contains(table.stdout, "ROLLCALL_BATCH_SIZE") || strings.Contains(table.stdout, "hunter2") {
		t.Errorf("table: got %q", table.stdout)
	}

	bad := worker(t, append(env, "ROLLCALL_BATCH_SISE=1", "ROLLCALL_MAX_ATTEMPTS=none"), "config")
	if bad.code != codeUsage || !strings.Contains(bad.stdout, "ROLLCALL_POOL") {
		t.Errorf("exit %d; want 2, and the settings all the same", bad.code)
	}
	for _, want := range []string{"2 faults", "did you mean ROLLCALL_BATCH_SIZE?", `ROLLCALL_MAX_ATTEMPTS is "none"`} {
		if !strings.Contains(bad.stderr, want) {
			t.Errorf("stderr %q lacks %q", bad.stderr, want)
		}
	}
}

func TestFaultySettingsKeepRunFromStarting(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{}, {"run"}, {"setup"}, {"probe"}} {
		got := worker(t, []string{"ROLLCALL_SERVICES=x", "ROLLCALL_POOL=a.b"}, args...)
		if got.code != codeUsage || !strings.Contains(got.stderr, "ROLLCALL_POOL") || !strings.Contains(got.stderr, "ROLLCALL_SERVICES") {
			t.Errorf("%v: exit %d, stderr %q; want 2 and both faults", args, got.code, got.stderr)
		}
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write([]byte("page " + r.URL.Path))
	}))
	t.Cleanup(server.Close)
	env := []string{"ROLLCALL_HTTP_ADDR=" + strings.TrimPrefix(server.URL, "http://")}
	if got := worker(t, env, "probe", "--live"); got.code != codeOK || got.stdout != "page /livez" {
		t.Errorf("live: got %+v", got)
	}
	if got := worker(t, env, "probe"); got.code != codeFailed || got.stdout != "page /readyz" || !strings.Contains(got.stderr, "503") {
		t.Errorf("not ready: got %+v", got)
	}
	if got := worker(t, []string{"ROLLCALL_HTTP_ADDR=127.0.0.1:1"}, "probe"); got.code != codeFailed || !strings.Contains(got.stderr, "ROLLCALL_HTTP_ADDR") {
		t.Errorf("nobody there: got %+v", got)
	}
}

func TestProbeAsksLoopbackWhereTheWorkerListensEverywhere(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		":8080": "http://localhost:8080/livez", "0.0.0.0:80": "http://localhost:80/livez", "[::]:80": "http://localhost:80/livez",
		"127.0.0.1:1": "http://127.0.0.1:1/livez", "[::1]:2": "http://[::1]:2/livez", "worker:3": "http://worker:3/livez",
	} {
		if got, err := probeURL(addr, true); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", addr, got, err, want)
		}
	}
}

func TestHelpHasAnExampleForEveryCommand(t *testing.T) {
	t.Parallel()
	c := &cli{}
	for _, command := range c.newRoot().Commands() {
		if command.Name() == "help" || command.Name() == "completion" {
			continue
		}
		if command.Example == "" || command.Short == "" || command.GroupID == "" {
			t.Errorf("%s lacks an example, a short text or a group", command.Name())
		}
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if got := worker(t, nil, "completion", shell); got.code != codeOK || len(got.stdout) < 1000 {
			t.Errorf("%s: exit %d, %d bytes", shell, got.code, len(got.stdout))
		}
	}
	if got := worker(t, nil, "__complete", "set"); !strings.Contains(got.stdout, "setup") {
		t.Errorf("completing set: got %q", got.stdout)
	}
}

func TestAFileForNATSThatCannotBeUsedIsAMistakeInTheSettings(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, setting := range []string{"NATS_CREDS=/nope", "NATS_CREDS=" + empty, "NATS_NKEY=/nope", "NATS_CA=" + empty} {
		name, _, _ := strings.Cut(setting, "=")
		begun := time.Now()
		r := worker(t, []string{"NATS_URL=nats://127.0.0.1:1", setting}, "status")
		if r.code != codeUsage || !strings.Contains(r.stderr, name) || time.Since(begun) > clientPatience/2 {
			t.Errorf("%s: exit %d after %v, %q; want 2 at once, naming it", setting, r.code, time.Since(begun), r.stderr)
		}
		if r := worker(t, []string{setting}, "config"); r.code != codeUsage || !strings.Contains(r.stderr, name+":") {
			t.Errorf("config with %s: exit %d, %q", setting, r.code, r.stderr)
		}
	}
}
