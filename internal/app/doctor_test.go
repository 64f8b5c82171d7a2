package app_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"rollcall/internal/app"
	"rollcall/internal/bus"
	"rollcall/internal/faulttest"
	"rollcall/internal/operate"
)

// monitored runs a nats-server with JetStream and a monitoring port.
func monitored(t *testing.T, change func(*server.Options)) *server.Server {
	t.Helper()
	options := server.Options{
		Host: "127.0.0.1", Port: -1, HTTPHost: "127.0.0.1", HTTPPort: -1,
		JetStream: true, StoreDir: t.TempDir(), JetStreamMaxStore: 1 << 30,
	}
	change(&options)
	return faulttest.StartServer(t, options)
}

func unchanged(*server.Options) {}

func monitorURL(s *server.Server) string { return "http://" + s.MonitorAddr().String() }

// listening is a service that must be called with an empty batch alone.
func listening(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err != nil || string(body) != "[]" {
			t.Errorf("the doctor called a service with %s, %v", body, err)
		}
	}))
	t.Cleanup(s.Close)
	return "billing=" + s.URL
}

// examine runs the doctor and returns its findings by check; several of one check are joined.
func examine(t *testing.T, monitor string, env ...string) (map[string]operate.Finding, error) {
	t.Helper()
	cfg, err := app.LoadRun(env)
	if err != nil {
		t.Fatal(err)
	}
	findings, err := app.Doctor(t.Context(), cfg, zerolog.Nop(), app.Options{Patience: time.Second}, monitor)
	found := map[string]operate.Finding{}
	for _, f := range findings {
		if f.Health != operate.Well && f.Remedy == "" {
			t.Errorf("nothing fixes %+v", f)
		}
		if before, twice := found[f.Check]; twice {
			f.Detail = before.Detail + "\n" + f.Detail
		}
		found[f.Check] = f
	}
	return found, err
}

// expect checks the health of findings; text must stand in the detail or the remedy.
func expect(t *testing.T, found map[string]operate.Finding, check string, health operate.Health, text string) {
	t.Helper()
	f, ok := found[check]
	if !ok || f.Health != health || !strings.Contains(f.Detail+" "+f.Remedy, text) {
		t.Errorf("%s: got %+v, want health %q and a text with %q", check, f, health, text)
	}
}

func setUp(t *testing.T, env ...string) {
	t.Helper()
	cfg, err := app.Load(env)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Setup(t.Context(), cfg, zerolog.Nop(), app.Options{}, false); err != nil {
		t.Fatal(err)
	}
}

func TestDoctorFindsNothingWrong(t *testing.T) {
	t.Parallel()
	s := monitored(t, func(o *server.Options) { o.SyncAlways = true })
	env := []string{"NATS_URL=" + s.ClientURL(), "ROLLCALL_SERVICES=" + listening(t), "ROLLCALL_STREAM_BYTES=64MiB"}
	setUp(t, env...)
	found, err := examine(t, monitorURL(s), env...)
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range []string{"connection", "place", "open files", "permissions", "streams", "backlog", "clock", "sync", "store", "service billing"} {
		expect(t, found, check, operate.Well, "")
	}
	if len(found) != 10 {
		t.Errorf("%d findings: %+v", len(found), found)
	}
}

// Unless somebody bounds the job stream, a flood of jobs leaves no room for commits.
func TestDoctorWarnsOfAJobStreamWithoutALimit(t *testing.T) {
	t.Parallel()
	s := monitored(t, unchanged)
	env := []string{"NATS_URL=" + s.ClientURL(), "ROLLCALL_SERVICES=" + listening(t)}
	setUp(t, env...)
	found, err := examine(t, monitorURL(s), env...)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, found, "stream JOBS limit", operate.Risky, "max_bytes is none")
}

func TestDoctorObjectsToRiskyServers(t *testing.T) {
	t.Parallel()
	s := monitored(t, func(o *server.Options) { o.JetStreamMaxStore = 0; o.SyncInterval = 2 * time.Minute })
	env := []string{"NATS_URL=" + s.ClientURL(), "ROLLCALL_SERVICES=" + listening(t)}
	found, err := examine(t, monitorURL(s), env...)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, found, "sync", operate.Risky, "sync_interval: always")
	expect(t, found, "stream JOBS", operate.Risky, "worker setup")
	found, _ = examine(t, monitorURL(s), append(env, "ROLLCALL_ENSURE=false")...)
	expect(t, found, "consumer JOBS/default", operate.Broken, "worker setup")
}

func TestDoctorDoesNotTrustAnotherServersMonitor(t *testing.T) {
	t.Parallel()
	s, other := monitored(t, unchanged), monitored(t, unchanged)
	env := []string{"NATS_URL=" + s.ClientURL(), "ROLLCALL_SERVICES=" + listening(t)}
	for monitor, text := range map[string]string{
		monitorURL(other): "another server", "http://127.0.0.1:1": "--monitor", "http://" + strings.TrimPrefix(s.ClientURL(), "nats://"): "--monitor",
	} {
		found, err := examine(t, monitor, env...)
		if err != nil {
			t.Fatal(err)
		}
		expect(t, found, "sync", operate.Unsure, text)
	}
}

func TestDoctorObjectsToALimitThatDeletesJobs(t *testing.T) {
	t.Parallel()
	s := monitored(t, unchanged)
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "JOBS", Subjects: []string{"jobs.>"}, Retention: jetstream.WorkQueuePolicy,
		MaxMsgs: 100, Discard: jetstream.DiscardOld, Duplicates: 2 * time.Minute, Sources: []*jetstream.StreamSource{{
			Name: bus.StreamLater, SubjectTransforms: []jetstream.SubjectTransformConfig{{Source: "due.>", Destination: "jobs.>"}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"NATS_URL=" + s.ClientURL(), "ROLLCALL_SERVICES=" + listening(t)}
	setUp(t, env...)
	found, err := examine(t, monitorURL(s), env...)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, found, "stream JOBS", operate.Broken, "accepted jobs are deleted")
}

func TestDoctorNamesMissingRights(t *testing.T) {
	t.Parallel()
	s := monitored(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "admin", Password: "secret"},
			{Username: "worker", Password: "secret", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Deny: []string{"done.batches.>", "$JS.API.STREAM.PURGE.DONE"}},
			}},
		}
	})
	env := []string{"NATS_URL=" + s.ClientURL(), "ROLLCALL_SERVICES=" + listening(t), "NATS_PASSWORD=secret"}
	setUp(t, append(env, "NATS_USER=admin")...)
	found, err := examine(t, monitorURL(s), append(env, "NATS_USER=worker")...)
	if err != nil {
		t.Fatal(err)
	}
	got := found["permissions"]
	for _, subject := range []string{`"done.batches.default.*.*"`, `"$JS.API.STREAM.PURGE.DONE"`} {
		if !strings.Contains(got.Detail, subject) {
			t.Errorf("the finding does not name %s: %+v", subject, got)
		}
	}
	expect(t, found, "streams", operate.Well, "")
}

func TestDoctorOnAServerWithoutJetStream(t *testing.T) {
	t.Parallel()
	s := monitored(t, func(o *server.Options) { o.JetStream = false })
	found, err := examine(t, monitorURL(s), "NATS_URL="+s.ClientURL(), "ROLLCALL_SERVICES="+listening(t))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, found, "streams", operate.Broken, "JetStream")
	expect(t, found, "service billing", operate.Well, "")
	for _, check := range []string{"backlog", "clock", "sync", "store"} {
		if f, reported := found[check]; reported {
			t.Errorf("without JetStream there is nothing to say of %+v", f)
		}
	}
}

func TestDoctorWithoutAServerStillTriesServices(t *testing.T) {
	t.Parallel()
	dead := fmt.Sprintf("127.0.0.1:%d", faulttest.FreePort(t))
	services := fmt.Sprintf("ROLLCALL_SERVICES=%s,search=http://%s,index=nats://svc.index", listening(t), dead)
	found, err := examine(t, "", "NATS_URL=nats://"+dead, services)
	if !errors.Is(err, app.ErrUnreachable) {
		t.Errorf("without a server: %v, want ErrUnreachable", err)
	}
	expect(t, found, "connection", operate.Broken, "NATS_URL")
	expect(t, found, "service billing", operate.Well, "")
	expect(t, found, "service search", operate.Broken, "refused")
	expect(t, found, "service index", operate.Unsure, "calling")
}

// TestDoctorSaysWhatReplicasSeeOfAServiceItCannotCall: it has no job for a service of the format plain,
// which refuses the secret of those that have.
func TestDoctorSaysWhatReplicasSeeOfAServiceItCannotCall(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"billing", "search"}, "ROLLCALL_SVC_BILLING_FORMAT=plain", "ROLLCALL_SVC_SEARCH_FORMAT=plain")
	r.services["billing"].Answer(func(faulttest.Request) faulttest.Answer {
		return faulttest.Answer{Status: http.StatusUnauthorized, Body: "no such key"}
	})
	r.start()
	r.send("jobs.test", "a", "{}")
	faulttest.Until(t, limit, "a refusal seen by the doctor", func() bool {
		findings, err := app.Doctor(t.Context(), r.config(), zerolog.Nop(), app.Options{NATS: []nats.Option{r.inProcess}}, "")
		if err != nil {
			t.Fatal(err)
		}
		health := map[string]operate.Health{}
		for _, f := range findings {
			health[f.Check] = f.Health
			if f.Check == "service billing" && f.Health == operate.Broken {
				for _, want := range []string{"takes connections", "replica r1", "401", "no such key"} {
					if !strings.Contains(f.Detail, want) {
						t.Errorf("%q does not name %q", f.Detail, want)
					}
				}
			}
		}
		if health["service search"] != operate.Well {
			t.Errorf("the other service is %v", health["service search"])
		}
		return health["service billing"] == operate.Broken
	})
	r.services["billing"].Answer(func(faulttest.Request) faulttest.Answer { return faulttest.Answer{} })
	r.judge()
}

// TestDoctorKnowsWhoMayCreateTheConsumer: a replica creates it only as a user who may.
func TestDoctorKnowsWhoMayCreateTheConsumer(t *testing.T) {
	t.Parallel()
	s := monitored(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "owner", Password: "secret"},
			{Username: "worker", Password: "secret", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Deny: []string{"$JS.API.CONSUMER.CREATE.JOBS.>"}},
			}},
			{Username: "mail", Password: "secret", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Deny: []string{"$JS.API.CONSUMER.CREATE.JOBS.default.jobs.other"}},
			}},
		}
	})
	env := []string{"NATS_URL=" + s.ClientURL(), "NATS_PASSWORD=secret", "ROLLCALL_SERVICES=" + listening(t)}
	setUp(t, append(env, "NATS_USER=owner")...)
	js := faulttest.JetStream(t, faulttest.Connect(t, s.ClientURL(), nats.UserInfo("owner", "secret")))
	if err := js.DeleteConsumer(t.Context(), "JOBS", "default"); err != nil {
		t.Fatal(err)
	}
	for user, c := range map[string]struct {
		health operate.Health
		remedy string
	}{
		"owner":  {operate.Risky, "or start a replica, which creates it"},
		"mail":   {operate.Risky, "or start a replica, which creates it"},
		"worker": {operate.Broken, "Run worker setup as a user who may create it"},
	} {
		found, err := examine(t, monitorURL(s), append(env[:len(env):len(env)], "NATS_USER="+user)...)
		if err != nil {
			t.Fatal(err)
		}
		expect(t, found, "consumer JOBS/default", c.health, c.remedy)
	}
}

// TestDoctorSaysWhatToDoAboutAService: a service that answers is not to be started.
func TestDoctorSaysWhatToDoAboutAService(t *testing.T) {
	t.Parallel()
	s := monitored(t, unchanged)
	for status, want := range map[int]string{
		http.StatusInternalServerError: "Look at the service", http.StatusTooManyRequests: "Look at the service",
		http.StatusUnauthorized: "ROLLCALL_SVC_", 0: "Start the service",
	} {
		url := fmt.Sprintf("http://127.0.0.1:%d", faulttest.FreePort(t))
		if status != 0 {
			service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
			t.Cleanup(service.Close)
			url = service.URL
		}
		found, err := examine(t, monitorURL(s), "NATS_URL="+s.ClientURL(), "ROLLCALL_SERVICES=billing="+url, "ROLLCALL_SVC_BILLING_TRIES=1")
		if err != nil {
			t.Fatal(err)
		}
		expect(t, found, "service billing", operate.Broken, want)
	}
}

// TestDoctorComparesTheLimitOfOpenFiles: short of files, no connection to a healthy service can be
// made.
func TestDoctorComparesTheLimitOfOpenFiles(t *testing.T) {
	t.Parallel()
	s := monitored(t, func(*server.Options) {})
	services := make([]string, 16)
	env := []string{"NATS_URL=" + s.ClientURL()}
	for i := range services {
		services[i] = fmt.Sprintf("s%d=http://127.0.0.1:1/jobs", i)
		env = append(env, fmt.Sprintf("ROLLCALL_SVC_S%d_CONCURRENCY=10000", i))
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	want := operate.Well
	if limit.Cur < 16*10_000+160 {
		want = operate.Risky
	}
	found, err := examine(t, monitorURL(s), append(env, "ROLLCALL_SERVICES="+strings.Join(services, ","))...)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, found, "open files", want, "160160")
}
