package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/spf13/cobra"

	"rollcall/internal/faulttest"
	"rollcall/internal/operate"
)

// shippedUsers are those of deploy/nats/nats-server.conf.
var shippedUsers = []string{"ops", "worker", "producer", "scheduler"}

// locked runs a server with the shipped configuration, the scheduler that it has as a comment
// included.
func locked(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/nats/nats-server.conf")
	if err != nil {
		t.Fatal(err)
	}
	conf := string(text)
	begin := strings.Index(conf, "      # {\n      #   user: scheduler")
	end := begin + strings.Index(conf[begin:], "      # }\n") + len("      # }\n")
	conf = conf[:begin] + strings.ReplaceAll(conf[begin:end], "      # ", "      ") + conf[end:]
	for _, user := range shippedUsers {
		conf = strings.ReplaceAll(conf, "$NATS_"+strings.ToUpper(user)+"_PASSWORD", user+"-secret")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "nats-server.conf")
	for name, text := range map[string]string{path: conf, filepath.Join(dir, "tls.conf"): "# none\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	opts, err := server.ProcessConfigFile(path)
	if err != nil {
		t.Fatal(err)
	}
	opts.Host, opts.Port, opts.HTTPPort, opts.StoreDir = "127.0.0.1", -1, 0, t.TempDir()
	return faulttest.StartServer(t, *opts).ClientURL()
}

// as is the environment of a user.
func as(url, service, user string) []string {
	return []string{"NATS_URL=" + url, "NATS_USER=" + user, "NATS_PASSWORD=" + user + "-secret", "ROLLCALL_SERVICES=billing=" + service}
}

// userCase is a command, and what becomes of it under the shipped users.
type userCase struct {
	args []string
	// may are the users for whom the command works.
	may []string
	// code is what it then exits with: what is asked for may not be there.
	code int
}

// everyCommandIsIn fails for a command of the program that no case calls. Replicas run as worker in
// every test here; the probe asks a port and not NATS; the others bring a server of their own.
func everyCommandIsIn(t *testing.T, cases []userCase) {
	t.Helper()
	called := map[string]bool{"worker run": true, "worker probe": true, "worker demo": true, "worker dev": true, "worker demo-services": true}
	root := (&cli{}).newRoot()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range cases {
		command, _, err := root.Find(c.args)
		if err != nil {
			t.Errorf("%v calls no command: %v", c.args, err)
			continue
		}
		called[command.CommandPath()] = true
	}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, below := range c.Commands() {
			walk(below)
		}
		shell := c.HasParent() && c.Parent().Name() == "completion" // one shell stands for all
		if c.Runnable() && c.HasParent() && !c.HasSubCommands() && !shell && !called[c.CommandPath()] {
			t.Errorf("%s is not tried under the shipped users", c.CommandPath())
		}
	}
	walk(root)
}

// TestEveryCommandUnderEveryShippedUser: a command works, or it says which right is missing.
func TestEveryCommandUnderEveryShippedUser(t *testing.T) {
	t.Parallel()
	url, billing := locked(t), faulttest.StartRecorder(t, "billing")
	if got := worker(t, as(url, billing.URL(), "ops"), "setup"); got.code != codeOK {
		t.Fatalf("setup as ops: %+v", got)
	}
	replica := start(t, url, []*faulttest.Recorder{billing}, append(as(url, billing.URL(), "worker"), "ROLLCALL_LOG_LEVEL=info")...)
	replica.logged("ready")
	if got := worker(t, as(url, billing.URL(), "ops"), "schedule", "set", "hourly", "jobs.report", "--every", "1h"); got.code != codeOK {
		t.Fatalf("schedule set as ops: %+v", got)
	}
	member := []string{"publish", "jobs.row", "{}", "--header", "Rollcall-Set:import", "--header", "Rollcall-Set-Size:1", "--wait"}
	if got := worker(t, as(url, billing.URL(), "ops"), member...); got.code != codeOK {
		t.Fatalf("publish a set as ops: %+v", got)
	}
	everybody := shippedUsers
	cases := []userCase{
		{[]string{"setup"}, []string{"ops", "worker"}, codeOK},
		{[]string{"setup", "--archive", "30d"}, []string{"ops"}, codeOK},
		{[]string{"doctor"}, []string{"worker"}, codeOK},
		{[]string{"status"}, []string{"ops", "worker"}, codeOK},
		{[]string{"publish", "jobs.mail", "{}"}, []string{"ops", "producer", "scheduler"}, codeOK},
		{[]string{"publish", "jobs.mail", "{}", "--delay", "1h"}, []string{"ops", "scheduler"}, codeOK},
		{[]string{"publish", "jobs.mail", "{}", "--unique", "k"}, []string{"ops", "producer", "scheduler"}, codeOK},
		{[]string{"publish", "jobs.mail", "{}", "--debounce", "k", "--delay", "1h"}, []string{"ops", "scheduler"}, codeOK},
		{[]string{"publish", "jobs.mail", "{}", "--wait"}, []string{"ops"}, codeOK},
		{[]string{"schedule", "set", "nightly", "jobs.report", "--every", "24h"}, []string{"ops", "scheduler"}, codeOK},
		{[]string{"schedule", "ls"}, []string{"ops"}, codeOK},
		{[]string{"schedule", "run", "hourly"}, []string{"ops"}, codeOK},
		{[]string{"schedule", "rm", "nothing"}, []string{"ops"}, codeNotFound},
		{[]string{"events", "--all", "--follow=false"}, []string{"ops"}, codeOK},
		{[]string{"events", "--since", "1h", "--follow=false"}, []string{"ops"}, codeOK},
		{[]string{"job", "nobody"}, []string{"ops"}, codeNotFound},
		{[]string{"cancel", "nobody"}, []string{"ops"}, codeNotFound},
		{[]string{"erase", "nobody", "--yes"}, []string{"ops"}, codeNotFound},
		{[]string{"set", "ls"}, []string{"ops", "worker"}, codeOK},
		{[]string{"set", "show", "none"}, []string{"ops", "worker"}, codeNotFound},
		{[]string{"set", "close", "s", "--size", "1"}, []string{"ops", "worker"}, codeOK},
		{[]string{"set", "wait", "import", "--timeout", limit.String()}, []string{"ops", "worker"}, codeOK},
		{[]string{"set", "cancel", "nobody", "--yes"}, []string{"ops"}, codeNotFound},
		{[]string{"dead", "ls"}, []string{"ops"}, codeOK},
		{[]string{"dead", "show", "1"}, []string{"ops"}, codeNotFound},
		{[]string{"dead", "replay", "--all"}, []string{"ops"}, codeOK},
		{[]string{"dead", "discard", "--all", "--yes"}, []string{"ops"}, codeOK},
		{[]string{"pause", "--for", "1s"}, []string{"ops"}, codeOK},
		{[]string{"resume"}, []string{"ops", "worker"}, codeOK},
		{[]string{"drain", "nobody"}, []string{"ops"}, codeNotFound},
		{[]string{"config"}, everybody, codeOK},
		{[]string{"version"}, everybody, codeOK},
		{[]string{"check", "billing"}, everybody, codeOK},
		{[]string{"runbook", "RollcallNoWorkers"}, everybody, codeOK},
		{[]string{"completion", "bash"}, everybody, codeOK},
		{[]string{"help"}, everybody, codeOK},
	}
	everyCommandIsIn(t, cases)
	for _, c := range cases {
		for _, user := range shippedUsers {
			t.Run(strings.Join(c.args, " ")+" as "+user, func(t *testing.T) {
				t.Parallel()
				got := worker(t, as(url, billing.URL(), user), c.args...)
				said := got.stdout + got.stderr
				switch works := slices.Contains(c.may, user); {
				case works && got.code != c.code:
					t.Errorf("exit %d, want %d: %s", got.code, c.code, said)
				case !works && (got.code != codeFailed || !strings.Contains(said, "denies this user: publish ") && !strings.Contains(said, "the user may not publish to")):
					t.Errorf("exit %d, and no right is named: %s", got.code, said)
				case strings.Contains(said, "no leader"):
					t.Errorf("a missing right is taken for a missing leader: %s", said)
				}
			})
		}
	}
}

// TestOperatorsEraseAMemberUnderTheLock: under the shipped configuration an erasure reaches the event
// of the set too, which has to be published anew once the old one is gone.
func TestOperatorsEraseAMemberUnderTheLock(t *testing.T) {
	t.Parallel()
	url, billing := locked(t), faulttest.StartRecorder(t, "billing")
	billing.Answer(faulttest.Each(func(faulttest.Asked) string { return "fail" }))
	ops := as(url, billing.URL(), "ops")
	wants(t, worker(t, ops, "setup"), codeOK)
	replica := start(t, url, []*faulttest.Recorder{billing}, as(url, billing.URL(), "worker")...)
	replica.logged("ready")
	wants(t, worker(t, ops, "publish", "jobs.row", "{}", "--id", "ann-1", "--header", "Rollcall-Set:import", "--header", "Rollcall-Set-Size:1"), codeOK)
	wants(t, worker(t, ops, "set", "wait", "import", "--timeout", limit.String()), codeFailed, "failed")
	wants(t, worker(t, ops, "erase", "ann-1", "--yes"), codeOK)
	got := worker(t, ops, "set", "show", "import", "-o", "json")
	if report := decode[operate.SetReport](t, got); got.code != codeOK || len(report.Failed) != 1 || !report.Failed[0].Erased {
		t.Errorf("exit %d: %+v", got.code, report)
	}
}
