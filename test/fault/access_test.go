//go:build fault && linux

package fault_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"rollcall/internal/faulttest"
	"rollcall/internal/history"
)

// shipped is the configuration that an operator is given.
const shipped = "../../deploy/nats/nats-server.conf"

// users of the shipped configuration, and their passwords in these tests.
var users = map[string]string{"producer": "pw-producer", "worker": "pw-worker", "ops": "pw-ops"}

// lockedDown starts a broker with the shipped configuration and returns the path of its copy;
// only the place of the store differs.
func lockedDown(t *testing.T) (*faulttest.Broker, string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"nats-server.conf", "tls.conf"} {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(shipped), name))
		if err != nil {
			t.Fatal(err)
		}
		here := strings.Replace(string(text), `"/data"`, fmt.Sprintf("%q", filepath.Join(dir, "data")), 1)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(here), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var env []string
	for user, password := range users {
		env = append(env, "NATS_"+strings.ToUpper(user)+"_PASSWORD="+password)
	}
	path := filepath.Join(dir, "nats-server.conf")
	return faulttest.StartBroker(t, faulttest.BrokerOptions{Config: path, Env: env}), path
}

// as logs a user in the way its documentation says.
func as(user string) []nats.Option {
	return []nats.Option{nats.UserInfo(user, users[user]), nats.CustomInboxPrefix("_INBOX." + user)}
}

// lockedScenario sets a pool up under the users of the shipped configuration.
func lockedScenario(t *testing.T, broker *faulttest.Broker, services ...string) *faulttest.Scenario {
	t.Helper()
	s := faulttest.NewScenario(t, program, broker.URL, services, as("ops")...)
	s.Env = s.Env.With("NATS_USER", "ops", "NATS_PASSWORD", users["ops"])
	s.Setup()
	s.Load.Via(faulttest.JetStream(t, faulttest.Connect(t, broker.URL, as("producer")...)))
	s.Env = s.Env.With("NATS_USER", "worker", "NATS_PASSWORD", users["worker"], "ROLLCALL_ENSURE", "false")
	return s
}

// TestWorkerUnderLeastPrivilege: the real worker does all of its work as the worker user of
// the shipped configuration, upkeep and dead letters included, on a broker that writes to disk
// before it answers; and it is killed once, so that pages are read back.
func TestWorkerUnderLeastPrivilege(t *testing.T) {
	t.Parallel()
	broker, _ := lockedDown(t)
	s := lockedScenario(t, broker, "billing", "search")
	s.Env = s.Env.With("ROLLCALL_ZOMBIE_HORIZON", "2s", "ROLLCALL_LOG_LEVEL", "debug")
	s.Services[0].Answer(faulttest.Each(func(job faulttest.Asked) string {
		if strings.HasSuffix(job.ID, "7") {
			return "fail"
		}
		return "ok"
	}))
	s.Load.Publish(300, patience)
	s.StartCrasher("after_commit", 3).WaitExit(patience)
	w := s.Start()
	s.Load.Publish(5000, patience)
	h := s.Judge(patience, history.History{Grace: lease})
	if len(h.DeadLetters) < 530 {
		t.Errorf("%d dead letters for 530 jobs that were failed", len(h.DeadLetters))
	}
	faulttest.Until(t, patience, "the ledger was swept", func() bool {
		stream, err := s.JS.Stream(t.Context(), "DONE")
		if err != nil {
			return false
		}
		// Of 332 pages the first 256 are a bucket that every job has left.
		return stream.CachedInfo().State.Msgs < uint64(len(h.Events)+100)
	})
	if log := w.Log(); strings.Contains(strings.ToLower(log), "permissions violation") {
		t.Error("the worker tried something that it may not do")
	}
	found, _ := s.Command(s.Env.With("NATS_URL", broker.URL), "doctor", "--monitor", broker.Monitor(), "-o", "json")
	if health := byCheck(t, found); health["permissions"] != "ok" || health["sync"] != "ok" || health["streams"] != "ok" || health["store"] != "ok" {
		t.Errorf("the doctor is not content with the shipped configuration: %v\n%s", health, found)
	}
}

// byCheck reads what worker doctor -o json prints.
func byCheck(t *testing.T, printed string) map[string]string {
	t.Helper()
	var findings []struct{ Check, Health string }
	if err := json.Unmarshal([]byte(printed), &findings); err != nil {
		t.Fatalf("worker doctor printed %q: %v", printed, err)
	}
	health := map[string]string{}
	for _, f := range findings {
		health[f.Check] = f.Health
	}
	return health
}

// TestRevokedCredentials: the broker stops knowing the worker's password. A process that can
// never come back must not look alive; it ends and says why.
func TestRevokedCredentials(t *testing.T) {
	t.Parallel()
	broker, path := lockedDown(t)
	s := lockedScenario(t, broker, "billing")
	w := s.Start()
	s.Load.Publish(100, patience)
	s.Judge(patience, history.History{Calm: true})
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	revoked := strings.ReplaceAll(string(text), "$NATS_WORKER_PASSWORD", `"another"`)
	if err := os.WriteFile(path, []byte(revoked), 0o600); err != nil {
		t.Fatal(err)
	}
	broker.Reload()
	if code := w.WaitExit(patience); code == 0 {
		t.Error("exit code 0 of a worker that was locked out")
	}
	if log := strings.ToLower(w.Log()); !strings.Contains(log, "authorization violation") && !strings.Contains(log, "authentication") {
		t.Error("the worker does not say that it was locked out")
	}
}

// TestRightTakenAway: the right to commit is taken from the running worker. It settles
// nothing without it, and doctor names the subject.
func TestRightTakenAway(t *testing.T) {
	t.Parallel()
	broker, path := lockedDown(t)
	s := lockedScenario(t, broker, "billing")
	s.Start()
	s.Load.Publish(100, patience)
	before := s.Judge(patience, history.History{Calm: true})
	change := func(old, new string) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), old, new)), 0o600); err != nil {
			t.Fatal(err)
		}
		broker.Reload()
	}
	change(`"done.batches.*.*.*"`, `"no.such.right"`)
	s.Load.Publish(20, patience)
	faulttest.Until(t, patience, "the jobs were called for", func() bool { return len(s.Services[0].Calls()) >= 120 })
	h := history.History{}
	s.Collect(&h)
	if len(h.Events) != len(before.Events) {
		t.Errorf("%d events, want the %d of before", len(h.Events), len(before.Events))
	}
	if found, _ := s.Command(s.Env, "doctor", "-o", "json"); !strings.Contains(found, "done.batches.default.*.*") {
		t.Errorf("the doctor does not name the missing right:\n%s", found)
	}
	change(`"no.such.right"`, `"done.batches.*.*.*"`)
	s.Judge(patience, history.History{Grace: patience})
}

// canary stands in for a secret, wherever one can be. Nobody may ever see it.
const canary = "CANARY-6f1f0c2e"

// TestSecretsStayInside plants a secret in the environment, in a service's URL, in payloads and
// in replies, makes things fail in every way, and looks for it in everything that is printed
// or served.
func TestSecretsStayInside(t *testing.T) {
	t.Parallel()
	secret := func(user string) string { return user + canary }
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{
		Extra: `authorization { user: worker, password: "` + secret("worker") + `" }`,
	})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing", "search"}, nats.UserInfo("worker", secret("worker")))
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("token"+canary), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Env = s.Env.With(
		"NATS_URL", strings.Replace(broker.URL, "nats://", "nats://worker:"+secret("worker")+"@", 1),
		"ROLLCALL_SERVICES", "billing="+s.Services[0].URL()+"?key="+canary+",search="+s.Services[1].URL(),
		"ROLLCALL_SVC_BILLING_TOKEN_FILE", file,
		"ROLLCALL_SVC_SEARCH_SECRET", "whsec_Q0FOQVJZLTZmMWYwYzJlLUNBTkFSWS02ZjFmMGMyZQ==",
		"ROLLCALL_LOG_LEVEL", "debug",
		"ROLLCALL_SVC_SEARCH_TIMEOUT", "300ms", "ROLLCALL_MAX_ATTEMPTS", "2", "ROLLCALL_JOB_MAX_AGE", "20s",
		"ROLLCALL_SVC_SEARCH_TRIES", "1", "ROLLCALL_SVC_BILLING_TRIES", "1",
	)
	s.Setup()
	s.Load.Body(func(n int) []byte {
		if n%10 == 3 {
			return []byte("\xff" + canary) // not even text
		}
		return []byte(`{"card":"` + canary + `"}`)
	})
	s.Services[0].Answer(func(r faulttest.Request) faulttest.Answer {
		switch r.Number % 5 {
		case 0:
			return faulttest.Answer{Status: 500, Body: "out of paper"} // shown on purpose: it is the service's reason
		case 1:
			return faulttest.Answer{Body: `{"results":[{"id":"` + canary + `","status":"ok"}]}`}
		case 2:
			return faulttest.Answer{Status: 302, Header: map[string][]string{"Location": {"http://127.0.0.1:1/" + canary}}}
		case 3:
			return faulttest.Answer{Body: canary}
		default:
			return faulttest.Answer{}
		}
	})
	s.Services[1].Answer(func(r faulttest.Request) faulttest.Answer {
		if r.Number%7 == 0 {
			return faulttest.Answer{Hang: true}
		}
		return faulttest.Answer{Status: 400 * (r.Number % 2), Body: "no such customer"}
	})
	w := s.Start()
	s.Load.Publish(100, patience)
	faulttest.WaitRest(t, s.JS, "JOBS", "default", patience)
	seen := map[string]string{"log": w.Log()}
	for _, page := range []string{"/metrics", "/readyz?verbose", "/livez", "/"} {
		seen[page] = w.Page(page)
	}
	for name, args := range map[string][]string{"config": {"config"}, "config as JSON": {"config", "-o", "json"}, "doctor": {"doctor"}} {
		seen[name], _ = s.Command(s.Env, args...)
	}
	broken := s.Env.With("NATS_URL", "nats://worker:"+canary+"@127.0.0.1:1")
	seen["doctor without a broker"], _ = s.Command(broken, "doctor")
	seen["faulty settings"], _ = s.Command(s.Env.With("NATS_TOKEN", canary, "NATS_PASSWORD", canary, "ROLLCALL_SVC_BILLING_TOKEN", canary, "ROLLCALL_BATCH_SIZE", "x"), "run")
	seen["headers of events and dead letters"] = strings.Join(s.Headers(), "\n")
	for where, text := range seen {
		if text == "" {
			t.Errorf("nothing was seen in %s", where)
		}
		for _, form := range []string{canary, "Q0FOQVJZLTZm"} {
			if i := strings.Index(text, form); i >= 0 {
				t.Errorf("the secret is in %s: …%s…", where, text[max(0, i-120):min(len(text), i+40)])
			}
		}
	}
}
