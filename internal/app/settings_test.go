package app_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/internal/app"
	"rollcall/internal/jobs"
	"rollcall/internal/service"
	"rollcall/internal/settings"
)

const services = "ROLLCALL_SERVICES=billing=http://billing:8080/jobs,e-mail=nats://svc.mail"

// faults loads environ and returns what is wrong with it, one fault an entry.
func faults(t *testing.T, environ ...string) []string {
	t.Helper()
	_, err := app.LoadRun(environ)
	if err == nil {
		return nil
	}
	var all *settings.FaultsError
	if !errors.As(err, &all) {
		t.Fatalf("want a *FaultsError, got %T: %v", err, err)
	}
	var texts []string
	for _, fault := range all.Faults {
		texts = append(texts, fault.Error())
	}
	return texts
}

func TestDefaultsAreThoseOfTheDesign(t *testing.T) {
	t.Parallel()
	c, err := app.LoadRun([]string{services})
	if err != nil {
		t.Fatal(err)
	}
	type values map[string]any
	got := values{
		"pool": c.Pool, "drain": c.DrainTimeout, "url": c.NATS.URL, "source": c.Streams.Source,
		"subjects": strings.Join(c.Streams.Subjects, ","), "stream": c.Streams.Stream, "ensure": c.Streams.Ensure,
		"ack wait": c.Streams.AckWait, "ttl": c.Streams.LedgerTTL, "horizon": c.Streams.ZombieHorizon,
		"size": c.Engine.BatchSize, "bytes": c.Engine.BatchBytes, "linger": c.Engine.BatchLinger, "slots": c.Engine.BatchesInFlight,
		"attempts": c.Engine.MaxAttempts, "age": c.Engine.JobMaxAge, "retry": [2]time.Duration{c.Engine.RetryMin, c.Engine.RetryMax},
		"http": c.Web.Addr, "level": c.Log.Level, "format": c.Log.Format,
		"services": len(c.Targets), "timeout": c.Targets[1].Config.Timeout, "tries": c.Targets[1].Config.Tries,
		"concurrency": c.Targets[1].Config.Concurrency, "required": c.Targets[1].Config.Required, "max reply": c.Targets[1].Config.MaxReply,
	}
	want := values{
		"pool": "default", "drain": 25 * time.Second, "url": "nats://127.0.0.1:4222", "source": "jetstream",
		"subjects": "jobs.>", "stream": "JOBS", "ensure": true,
		"ack wait": 30 * time.Second, "ttl": 24 * time.Hour, "horizon": 10 * time.Minute,
		"size": 96, "bytes": jobs.MiB, "linger": 50 * time.Millisecond, "slots": 8,
		"attempts": 20, "age": 24 * time.Hour, "retry": [2]time.Duration{time.Second, 5 * time.Minute},
		"http": "127.0.0.1:8080", "level": "info", "format": "json",
		"services": 2, "timeout": 10 * time.Second, "tries": 3, "concurrency": service.Concurrency(32), "required": true, "max reply": jobs.MiB,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestValuesAreRead(t *testing.T) {
	t.Parallel()
	c, err := app.LoadRun([]string{
		services, "ROLLCALL_POOL=mail-2", "ROLLCALL_SUBJECTS=jobs.a, jobs.b.>", "ROLLCALL_BATCH_BYTES=64KiB", "ROLLCALL_ENSURE=false",
		"ROLLCALL_BATCH_KEY=header:Tenant", "ROLLCALL_SVC_E_MAIL_REQUIRED=false", "ROLLCALL_SVC_E_MAIL_RATE=2.5",
		`NATS_PASSWORD=a"b\c,=d ü`, "NATS_USER=ann", "ROLLCALL_RETRY_MAX=", "UNRELATED=x", "TIMEOUT=1ms", "broken",
	})
	if err != nil {
		t.Fatal(err)
	}
	mail := c.Targets[1].Config
	if c.Pool != "mail-2" || len(c.Streams.Subjects) != 2 || c.Engine.BatchBytes != 64*jobs.KiB || c.Streams.Ensure ||
		c.Engine.BatchKey.String() != "header:Tenant" || mail.Required || mail.Rate != 2.5 {
		t.Errorf("got %+v", c)
	}
	if got := c.NATS.Password.Reveal(); got != `a"b\c,=d ü` {
		t.Errorf("password %q was not taken byte for byte", got)
	}
	if c.Engine.RetryMax != 5*time.Minute {
		t.Errorf("an empty value is not the default: %v", c.Engine.RetryMax)
	}
	if mail.Timeout != 10*time.Second {
		t.Errorf("TIMEOUT of another program was taken for the service's: %v", mail.Timeout)
	}
}

func TestTheProcessEnvironmentIsNotRead(t *testing.T) {
	t.Setenv("ROLLCALL_POOL", "from-the-process")
	t.Setenv("ROLLCALL_NONSENSE", "x")
	c, err := app.LoadRun([]string{services})
	if err != nil || c.Pool != "default" {
		t.Errorf("pool %q, error %v: Load must see nothing but its argument", c.Pool, err)
	}
}

func TestEveryFaultAtOnce(t *testing.T) {
	t.Parallel()
	got := faults(t,
		"ROLLCALL_POOL=a.b", "ROLLCALL_BATCH_SIZE=many", "ROLLCALL_BATCH_LINGER=50", "ROLLCALL_ENSURE=perhaps", "ROLLCALL_BATCH_BYTES=1XB",
		"ROLLCALL_SERVICES=billing=http://billing:8080/jobs", "ROLLCALL_SVC_BILLING_TRIES=0", "ROLLCALL_SVC_BILLING_RATE=fast",
		"ROLLCALL_SVC_SEARCH_TIMEOUT=1s", "ROLLCALL_BATCH_SISE=5", "ROLLCALL_HTTP_ADDR=8080", "ROLLCALL_PAGE_ADDR=page", "ROLLCALL_LOG_LEVEL=loud",
		"ROLLCALL_DRAIN_TIMEOUT=0s", "ROLLCALL_RETRY_MAX=1ms", "NATS_USER=a", "NATS_TOKEN=b",
	)
	want := [][]string{
		{"ROLLCALL_BATCH_SIZE", `"many"`, "whole number"},
		{"ROLLCALL_BATCH_LINGER", `"50"`, "50ms"},
		{"ROLLCALL_ENSURE", "true or false"},
		{"ROLLCALL_BATCH_BYTES", "1MiB"},
		{"ROLLCALL_SVC_BILLING_TRIES", "1"},
		{"ROLLCALL_SVC_BILLING_RATE", "number"},
		{"ROLLCALL_SVC_SEARCH_TIMEOUT", "billing"},
		{"ROLLCALL_BATCH_SISE", "ROLLCALL_BATCH_SIZE"},
		{"ROLLCALL_HTTP_ADDR", "127.0.0.1:8080"},
		{"ROLLCALL_PAGE_ADDR", "127.0.0.1:8081"},
		{"ROLLCALL_LOG_LEVEL", "info"},
		{"ROLLCALL_POOL", "letters"},
		{"ROLLCALL_DRAIN_TIMEOUT"},
		{"ROLLCALL_RETRY_MAX", "ROLLCALL_RETRY_MIN"},
		{"NATS_TOKEN", "NATS_USER"},
	}
	for _, words := range want {
		found := false
		for _, fault := range got {
			all := true
			for _, word := range words {
				all = all && strings.Contains(fault, word)
			}
			found = found || all
		}
		if !found {
			t.Errorf("no fault says %q", words)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d faults, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
}

func TestFaultsBetweenSettings(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]string{
		{"ROLLCALL_ZOMBIE_HORIZON=20s", "ROLLCALL_ACK_WAIT=30s"},
		{"ROLLCALL_LEDGER_TTL=1h", "ROLLCALL_RETRY_MAX=1h"},
	} {
		got := faults(t, "ROLLCALL_SERVICES=billing=http://billing:8080/jobs", pair[0], pair[1])
		if len(got) != 1 {
			t.Fatalf("%s with %s: got the faults %q, want one", pair[0], pair[1], got)
		}
		for _, given := range pair {
			if name, _, _ := strings.Cut(given, "="); !strings.Contains(got[0], name) {
				t.Errorf("%q does not name %s", got[0], name)
			}
		}
	}
}

// TestAPoolIsNotItsOwnService: such a pool would take its requests for jobs, and the stream's
// confirmation for a reply.
func TestAPoolIsNotItsOwnService(t *testing.T) {
	t.Parallel()
	const both = "ROLLCALL_SUBJECTS"
	for _, c := range []struct {
		url  string
		more string
		want string // in the fault, empty if there is none
	}{
		{"nats://jobs.index", "ROLLCALL_SUBJECTS=jobs.>", both},
		{"nats://jobs.index", "ROLLCALL_SUBJECTS=orders.mail,jobs.*", both},
		{"nats://jobs.index", "ROLLCALL_SUBJECTS=jobs.mail", ""},
		{"nats://jobs.{type}", "ROLLCALL_SUBJECTS=jobs.mail", both},
		{"nats://jobs.v{attempt}-{id}.x", "ROLLCALL_SUBJECTS=jobs.*.x", both},
		{"nats://jobs.v{attempt}.y", "ROLLCALL_SUBJECTS=jobs.*.x", ""},
		{"nats://{type}.x", "ROLLCALL_SUBJECTS=orders.>", "due.>"}, // may be anything
		{"nats://svc.{type}", "ROLLCALL_SUBJECTS=jobs.>", ""},
		{"nats://svc.index", "ROLLCALL_SUBJECTS=>", ""}, // all that a stream of others holds
		{"nats://svc.index", "ROLLCALL_SOURCE=core ROLLCALL_SUBJECTS=svc.>", both},
		{"nats://due.index", "ROLLCALL_SUBJECTS=orders.>", "due.>"},
		{"nats://later.index", "ROLLCALL_SUBJECTS=orders.>", "later.>"},
		{"nats://done.index", "ROLLCALL_SUBJECTS=orders.>", "done.>"},
		{"nats://dead.index", "ROLLCALL_SUBJECTS=orders.>", "dead.>"},
		{"http://jobs.index/", "ROLLCALL_SUBJECTS=jobs.>", ""},
	} {
		got := faults(t, append(strings.Fields(c.more), "ROLLCALL_SERVICES=index="+c.url, "ROLLCALL_SVC_INDEX_FORMAT=event")...)
		if c.want == "" && len(got) > 0 {
			t.Errorf("%s with %s: got the faults %q, want none", c.url, c.more, got)
		}
		if c.want != "" && (len(got) != 1 || !strings.Contains(got[0], "ROLLCALL_SERVICES: service index") || !strings.Contains(got[0], c.want)) {
			t.Errorf("%s with %s: got the faults %q, want one with %s", c.url, c.more, got, c.want)
		}
	}
}

func TestServicesAreRequiredToRunOnly(t *testing.T) {
	t.Parallel()
	if got := faults(t); len(got) != 1 || !strings.Contains(got[0], "ROLLCALL_SERVICES") {
		t.Errorf("got %q; want one fault that names ROLLCALL_SERVICES", got)
	}
	if _, err := app.Load(nil); err != nil {
		t.Errorf("without a pool to run: %v", err)
	}
	if _, err := app.Load([]string{"ROLLCALL_SERVICES=billing"}); err == nil {
		t.Error("an unreadable list passed")
	}
}

func TestUnknownNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"ROLLCALL_POOOL":                 "did you mean ROLLCALL_POOL?",
		"ROLLCALL_ACKWAIT":               "did you mean ROLLCALL_ACK_WAIT?",
		"ROLLCALL_SVC_BILLING_TIMOEUT":   "did you mean ROLLCALL_SVC_BILLING_TIMEOUT?",
		"ROLLCALL_SVC_BILLING_TOKEN_FIL": "did you mean ROLLCALL_SVC_BILLING_TOKEN_FILE?",
		"ROLLCALL_SVC_WAREHOUSE_TRIES":   "which names billing, e-mail",
		"ROLLCALL_SVC_BILLING_NO_THING":  "ROLLCALL_SVC_BILLING_NO_THING is unknown",
		"ROLLCALL_FROBNICATE_QUICKLY":    "worker config",
		"ROLLCALL_POOL_FILE":             "ROLLCALL_POOL", // not a secret, so it has no _FILE
	} {
		got := faults(t, services, name+"=1")
		if len(got) != 1 || !strings.HasPrefix(got[0], name+" ") || !strings.Contains(got[0], want) {
			t.Errorf("%s: got %q, want one fault with %q", name, got, want)
		}
	}
}

// Kubernetes sets these in every container of a namespace with a service called "rollcall".
func TestServiceLinksAreNotOurs(t *testing.T) {
	t.Parallel()
	got := faults(t, services, "ROLLCALL_SERVICE_HOST=10.0.0.1", "ROLLCALL_SERVICE_PORT=80", "ROLLCALL_SERVICE_PORT_HTTP=80", "ROLLCALL_PORT=tcp://10.0.0.1:80",
		"ROLLCALL_PORT_80_TCP=tcp://10.0.0.1:80", "ROLLCALL_PORT_80_TCP_PROTO=tcp", "ROLLCALL_PORT_80_TCP_PORT=80", "ROLLCALL_PORT_80_TCP_ADDR=10.0.0.1", "ROLLCALL_WORKER_SERVICE_HOST=10.0.0.2")
	if got != nil {
		t.Errorf("got %q", got)
	}
}

// file writes text to a new file and returns its path.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSecretsFromFiles(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"s3cret\n": "s3cret", "s3cret\r\n": "s3cret", "s3cret": "s3cret", " s3cret \n\n": " s3cret \n"} {
		c, err := app.Load([]string{"NATS_TOKEN_FILE=" + file(t, text)})
		if err != nil || c.NATS.Token.Reveal() != want {
			t.Errorf("file %q: token %q, error %v; want %q", text, c.NATS.Token.Reveal(), err, want)
		}
	}
	c, err := app.LoadRun([]string{services, "ROLLCALL_SVC_BILLING_TOKEN_FILE=" + file(t, "abc\n")})
	if err != nil || c.Targets[0].Config.Token.Reveal() != "abc" {
		t.Errorf("a service's token: %v", err)
	}
}

func TestFaultySecretFiles(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "nowhere")
	for name, c := range map[string]struct {
		environ []string
		want    string
	}{
		"both":    {[]string{"NATS_TOKEN=a", "NATS_TOKEN_FILE=" + file(t, "b")}, "both set"},
		"missing": {[]string{"NATS_TOKEN_FILE=" + missing}, "nowhere"},
		"empty":   {[]string{"NATS_TOKEN_FILE=" + file(t, "\n")}, "empty"},
		"huge":    {[]string{"NATS_TOKEN_FILE=" + file(t, strings.Repeat("x", 70<<10))}, "bytes"},
	} {
		got := faults(t, append(c.environ, services)...)
		if len(got) != 1 || !strings.Contains(got[0], "NATS_TOKEN_FILE") || !strings.Contains(got[0], c.want) {
			t.Errorf("%s: got %q, want one fault that names NATS_TOKEN_FILE and says %q", name, got, c.want)
		}
	}
}

func TestSettingsTellTheirSource(t *testing.T) {
	t.Parallel()
	all, err := app.Settings([]string{services, "ROLLCALL_POOL=mail", "NATS_TOKEN_FILE=" + file(t, "x")})
	if err != nil {
		t.Fatal(err)
	}
	source := map[string]string{}
	for _, s := range all {
		source[s.Name] = s.Source
		if s.Description == "" {
			t.Errorf("%s is not described", s.Name)
		}
	}
	for name, want := range map[string]string{
		"ROLLCALL_POOL": "env", "NATS_TOKEN": "file", "ROLLCALL_BATCH_SIZE": "default", "ROLLCALL_SVC_E_MAIL_TIMEOUT": "default",
	} {
		if source[name] != want {
			t.Errorf("source of %s is %q, want %q", name, source[name], want)
		}
	}
}

func TestSecretsAreMaskedEverywhere(t *testing.T) {
	t.Parallel()
	const canary = "hunter2canary"
	environ := []string{
		"NATS_URL=nats://ann:" + canary + "@host:4222", "NATS_TOKEN=" + canary, "NATS_PASSWORD_FILE=" + file(t, canary),
		"ROLLCALL_SERVICES=billing=http://ann:" + canary + "@billing/jobs,ok=http://ok/?key=" + canary + "&x=1", "ROLLCALL_SVC_OK_SECRET=" + canary, "ROLLCALL_SVC_OK_TOKEN=" + canary + " x",
		"ROLLCALL_BATCH_SIZE=amqp://ann:" + canary + "@host",
	}
	all, err := app.Settings(environ)
	if err == nil {
		t.Fatal("faulty settings passed")
	}
	c, _ := app.Load(environ)
	for _, shown := range []string{fmt.Sprintf("%+v", all), err.Error(), fmt.Sprintf("%+v %#v", c.NATS.Token, c.NATS.Password)} {
		if strings.Contains(shown, canary) {
			t.Errorf("a secret shows in:\n%s", shown)
		}
	}
	if !strings.Contains(fmt.Sprintf("%+v", all), "nats://***@host:4222") {
		t.Error("the rest of the URL should be shown")
	}
	for _, url := range []string{"ann:" + canary + "@h", "nats://a:b/" + canary + ",@h1,nats://c:" + canary + "@h2", "ann:" + canary + "@h1,nats://c:d@h2", "nats://" + canary + "@h"} {
		all, _ := app.Settings([]string{"NATS_URL=" + url})
		if shown := fmt.Sprintf("%+v", all); strings.Contains(shown, canary) {
			t.Errorf("NATS_URL=%s shows as %s", url, shown)
		}
	}
}

// TestEverySettingHasAnUpperBound sets each number, duration and size to more than anybody can
// mean: that is one fault, of that setting.
func TestEverySettingHasAnUpperBound(t *testing.T) {
	t.Parallel()
	huge := map[string]string{"duration": "2562047h", "size": "2000000000GiB", "number": "1000000000"}
	all, err := app.Settings([]string{services})
	if err != nil {
		t.Fatal(err)
	}
	bounded := 0
	for _, s := range all {
		kind := ""
		switch {
		case regexp.MustCompile(`^[0-9.]+(ms|s|m|h)$`).MatchString(s.Default):
			kind = "duration"
		case strings.HasSuffix(s.Default, "iB"), strings.HasSuffix(s.Name, "_BYTES"):
			kind = "size"
		case regexp.MustCompile(`^[0-9]+$`).MatchString(s.Default):
			kind = "number"
		default:
			continue
		}
		bounded++
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			got := faults(t, services, s.Name+"="+huge[kind])
			if len(got) != 1 || !strings.Contains(got[0], s.Name) {
				t.Errorf("%s=%s has %d faults, want one that names it: %q", s.Name, huge[kind], len(got), got)
			}
		})
	}
	if bounded < 25 {
		t.Errorf("only %d settings were tried", bounded)
	}
}

func TestValuesThatWereMeantForAShellAreExplained(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("\ufeffhunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{`NATS_URL="nats://host:4222"`, "quotes"}, {`ROLLCALL_POOL='mail'`, "quotes"},
		{"NATS_PASSWORD=hunter2\n", "line break"}, {"NATS_PASSWORD_FILE=" + file, "byte order mark"},
	} {
		got := faults(t, services, "NATS_USER=ann", c[0])
		if len(got) != 1 || !strings.Contains(got[0], c[1]) || strings.Contains(got[0], "hunter2") {
			t.Errorf("%q: %q, want one fault that says %q", c[0], got, c[1])
		}
	}
}

// TestABrokenServiceHidesNoOtherFault: not of its own settings, nor of those of other services. Only what
// may belong to the service without a name is let pass.
func TestABrokenServiceHidesNoOtherFault(t *testing.T) {
	t.Parallel()
	got := faults(t, "ROLLCALL_SERVICES=Upper=http://a,mail=http://mail/{nope},billing=http://b", "ROLLCALL_SVC_UPPER_TRIES=2",
		"ROLLCALL_SVC_MAIL_TIMEOT=1s", "ROLLCALL_SVC_MAIL_TRIES=0", "ROLLCALL_SVC_BILLING_RATE=fast")
	for _, want := range []string{`"Upper"`, "{nope}", "did you mean ROLLCALL_SVC_MAIL_TIMEOUT?", "ROLLCALL_SVC_MAIL_TRIES", "ROLLCALL_SVC_BILLING_RATE"} {
		if !slices.ContainsFunc(got, func(fault string) bool { return strings.Contains(fault, want) }) {
			t.Errorf("no fault says %q", want)
		}
	}
	if len(got) != 5 {
		t.Errorf("got %d faults, want 5:\n%s", len(got), strings.Join(got, "\n"))
	}
}

// A service that cannot be read must not make its other settings look wrong too.
func TestABrokenServiceIsOneFault(t *testing.T) {
	t.Parallel()
	got := faults(t, "ROLLCALL_SERVICES=mail=http://mail/{nope}", "ROLLCALL_SVC_MAIL_FORMAT=event")
	if len(got) != 1 || !strings.Contains(got[0], "{nope}") {
		t.Errorf("got %q, want one fault, the hole {nope}", got)
	}
}
