// Package nats_test proves what nats-server.conf promises: each user can do its own work and
// nothing else.
package nats_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"rollcall/internal/app"
	"rollcall/internal/faulttest"
)

// passwords are in the environment for the whole run, as an operator would have them.
var passwords = map[string]string{
	"NATS_PRODUCER_PASSWORD": "producer-secret",
	"NATS_WORKER_PASSWORD":   "worker-secret",
	"NATS_OPS_PASSWORD":      "ops-secret",
	// Of the user that the configuration has as a comment.
	"NATS_SCHEDULER_PASSWORD": "scheduler-secret",
}

func TestMain(m *testing.M) {
	settings := maps.Clone(passwords)
	settings["NATS_NAME"] = "compose" // of compose.conf
	for name, value := range settings {
		if err := os.Setenv(name, value); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m, faulttest.ServerLeftovers())
}

// soon is long enough for a reply. Only a failing test waits that long.
const soon = 10 * time.Second

// start runs a server with the configuration file at path on a free port.
func start(t *testing.T, path string) *server.Server {
	t.Helper()
	opts, err := server.ProcessConfigFile(path)
	if err != nil {
		t.Fatal(err)
	}
	opts.Host, opts.Port, opts.HTTPPort = "127.0.0.1", -1, 0
	opts.StoreDir = t.TempDir()
	return faulttest.StartServer(t, *opts)
}

// login connects as one of the users, with an inbox of its own.
func login(t *testing.T, s *server.Server, user string, options ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(s.ClientURL(), append([]nats.Option{
		nats.UserInfo(user, user+"-secret"), nats.CustomInboxPrefix("_INBOX." + user),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	}, options...)...)
	if err != nil {
		t.Fatalf("log in as %s: %v", user, err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// provision makes the streams and the consumer, as ops does with worker setup, and a stream
// that is none of ours.
func provision(t *testing.T, s *server.Server) jetstream.JetStream {
	t.Helper()
	cfg, err := app.Load([]string{"NATS_URL=" + s.ClientURL(), "NATS_USER=ops", "NATS_PASSWORD=ops-secret"})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := app.Setup(t.Context(), cfg, zerolog.Nop(), app.Options{Patience: soon}, false)
	if err != nil || len(plan.Created) != 5 {
		t.Fatalf("ops made %v, %v; want four streams and a consumer", plan.Created, err)
	}
	js, err := jetstream.New(login(t, s, "ops"))
	if err != nil {
		t.Fatal(err)
	}
	other := jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other.>"}, AllowDirect: true}
	if _, err := js.CreateStream(t.Context(), other); err != nil {
		t.Fatalf("ops creates %s: %v", other.Name, err)
	}
	return js
}

func publishJob(t *testing.T, s *server.Server) {
	t.Helper()
	publishJobTo(t, s, "jobs.x")
}

// publishJobTo publishes as the producer.
func publishJobTo(t *testing.T, s *server.Server, subject string) {
	t.Helper()
	js, err := jetstream.New(login(t, s, "producer"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), subject, []byte("{}")); err != nil {
		t.Fatalf("the producer publishes a job: %v", err)
	}
}

func TestProducerPublishesJobs(t *testing.T) {
	t.Parallel()
	s := start(t, "nats-server.conf")
	provision(t, s)
	publishJob(t, s)
}

func TestWorkerDoesItsWork(t *testing.T) {
	t.Parallel()
	s := start(t, "nats-server.conf")
	provision(t, s)
	publishJob(t, s)
	nc := login(t, s, "worker")
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for _, stream := range []string{"JOBS", "DONE", "DEAD"} {
		if _, err := js.Stream(ctx, stream); err != nil {
			t.Errorf("the worker looks at %s: %v", stream, err)
		}
	}
	consumer, err := js.Consumer(ctx, "JOBS", "default")
	if err != nil {
		t.Fatalf("the worker looks at its consumer: %v", err)
	}
	m, err := consumer.Next(jetstream.FetchMaxWait(soon), jetstream.FetchPriorityGroup("replicas"))
	if err != nil {
		t.Fatalf("the worker takes a job: %v", err)
	}
	if err := m.InProgress(); err != nil {
		t.Errorf("the worker renews a lease: %v", err)
	}
	commit(t, nc)
	page := "done.ledger.default.page.JOBS.e.0.0"
	if answer, err := nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET.DONE", fmt.Appendf(nil, `{"last_by_subj":%q}`, page)); err != nil || answer.Header.Get("Nats-Subject") != page {
		t.Errorf("the worker reads a page: %v", err)
	}
	if done, err := js.Stream(ctx, "DONE"); err != nil {
		t.Error(err)
	} else if err := done.Purge(ctx, jetstream.WithPurgeSubject("done.ledger.default.page.JOBS.e.0.*")); err != nil {
		t.Errorf("the worker drops old pages: %v", err)
	}
	answer, err := nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET.DONE", []byte(`{"multi_last":["done.ledger.>"],"batch":1}`))
	if err != nil || answer.Header.Get("Status") != "404" {
		t.Errorf("the worker reads many pages at once: %v", err)
	}
	if _, err := js.Publish(ctx, "dead.default.jobs.x", nil); err != nil {
		t.Errorf("the worker stores a dead letter: %v", err)
	}
	if err := m.DoubleAck(ctx); err != nil {
		t.Errorf("the worker acks: %v", err)
	}
}

// commit publishes a page and an event in one atomic batch, as the ledger does.
func commit(t *testing.T, nc *nats.Conn) {
	t.Helper()
	page, event := nats.NewMsg("done.ledger.default.page.JOBS.e.0.0"), nats.NewMsg("done.batches.default.succeeded.b1")
	for i, m := range []*nats.Msg{page, event} {
		m.Header.Set("Nats-Batch-Id", "b1")
		m.Header.Set("Nats-Batch-Sequence", fmt.Sprint(i+1))
	}
	page.Header.Set("Nats-Expected-Last-Subject-Sequence", "0")
	event.Header.Set("Nats-Batch-Commit", "1")
	if err := nc.PublishMsg(page); err != nil {
		t.Fatal(err)
	}
	ack, err := nc.RequestMsgWithContext(t.Context(), event)
	if err != nil || strings.Contains(string(ack.Data), "error") {
		t.Fatalf("the worker commits: %v %s", err, ack.Data)
	}
}

func TestOpsReadsEventsAndReplays(t *testing.T) {
	t.Parallel()
	s := start(t, "nats-server.conf")
	js := provision(t, s)
	heard, err := js.Conn().SubscribeSync("batches.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := js.Conn().FlushTimeout(soon); err != nil {
		t.Fatal(err)
	}
	commit(t, login(t, s, "worker"))
	if m, err := heard.NextMsg(soon); err != nil || m.Subject != "batches.default.succeeded.b1" {
		t.Errorf("ops hears of a committed batch: %v, %v", m, err)
	}
	events, err := js.OrderedConsumer(t.Context(), "DONE", jetstream.OrderedConsumerConfig{FilterSubjects: []string{"done.batches.>"}})
	if err != nil {
		t.Fatalf("ops reads events: %v", err)
	}
	if _, err := events.Next(jetstream.FetchMaxWait(soon)); err != nil {
		t.Errorf("ops reads events: %v", err)
	}
	if _, err := js.Publish(t.Context(), "jobs.x", nil); err != nil {
		t.Errorf("ops replays a job: %v", err)
	}
}

// TestOpsAndWorkersAskReplicas: a worker answers whoever may ask, asks its like how they are,
// and tells them nothing.
func TestOpsAndWorkersAskReplicas(t *testing.T) {
	t.Parallel()
	s := start(t, "nats-server.conf")
	worker := login(t, s, "worker")
	for _, subject := range []string{"$SRV.PING", "$SRV.PING.rollcall", "rollcall.default.host-1.status"} {
		if _, err := worker.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond([]byte("here")) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := worker.FlushTimeout(soon); err != nil {
		t.Fatal(err)
	}
	ops := login(t, s, "ops")
	for _, subject := range []string{"$SRV.PING", "rollcall.default.host-1.status"} {
		if m, err := ops.Request(subject, nil, soon); err != nil || string(m.Data) != "here" {
			t.Errorf("ops asks %s: %v", subject, err)
		}
	}
	for _, subject := range []string{"$SRV.PING.rollcall", "rollcall.default.host-1.status"} {
		if m, err := login(t, s, "worker").Request(subject, nil, soon); err != nil || string(m.Data) != "here" {
			t.Errorf("another worker asks %s: %v", subject, err)
		}
	}
	expectDenied(t, s, "worker", func(nc *nats.Conn) error { return nc.Publish("_INBOX.ops.x", nil) })
	expectDenied(t, s, "worker", func(nc *nats.Conn) error { return nc.Publish("rollcall.default.host-1.drain", nil) })
}

// TestProducerCannotAimPubAcksAtTheLedger: the server answers to any reply subject, whatever
// the client's permissions; it must not be one of the ledger's.
func TestProducerCannotAimPubAcksAtTheLedger(t *testing.T) {
	t.Parallel()
	s := start(t, "nats-server.conf")
	js := provision(t, s)
	nc := login(t, s, "producer")
	job := nats.NewMsg("jobs.x")
	job.Reply = "done.ledger.default.page.JOBS.e.0.0"
	if err := nc.PublishMsg(job); err != nil {
		t.Fatal(err)
	}
	publishJob(t, s) // later, so the first is stored and answered by now
	for stream, want := range map[string]uint64{"JOBS": 2, "DONE": 0} {
		if held, err := js.Stream(t.Context(), stream); err != nil || held.CachedInfo().State.Msgs != want {
			t.Errorf("%s holds %d messages, %v; want %d", stream, held.CachedInfo().State.Msgs, err, want)
		}
	}
}

func TestConfigurationNeedsEveryPassword(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("nats-server.conf")
	if err != nil {
		t.Fatal(err)
	}
	for name := range passwords {
		if name == "NATS_SCHEDULER_PASSWORD" {
			continue
		}
		dir := t.TempDir()
		path := filepath.Join(dir, "nats-server.conf")
		write(t, filepath.Join(dir, "tls.conf"), "# empty\n")
		write(t, path, strings.ReplaceAll(string(text), name, name+"_UNSET"))
		if _, err := server.ProcessConfigFile(path); err == nil || !strings.Contains(err.Error(), name+"_UNSET") {
			t.Errorf("without %s the server says %v, want an error that names it", name, err)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestConfigurationIsSafeForPowerLossAndLimited(t *testing.T) {
	t.Parallel()
	s := start(t, "nats-server.conf")
	config := s.JetStreamConfig()
	if config == nil || !config.SyncAlways {
		t.Errorf("JetStream is configured as %+v, want sync_interval: always", config)
	}
	if config.MaxStore != 8<<30 {
		t.Errorf("file store limit %d, want one below the size of the volume", config.MaxStore)
	}
	opts, err := server.ProcessConfigFile("nats-server.conf")
	if err != nil {
		t.Fatal(err)
	}
	if opts.MaxPayload != 1<<20 && opts.MaxPayload != 1000*1000 {
		t.Errorf("max payload %d, want 1MB", opts.MaxPayload)
	}
	if opts.HTTPHost != "127.0.0.1" {
		t.Errorf("the monitoring port listens on %q, which asks nobody for a password", opts.HTTPHost)
	}
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	js, err := jetstream.New(login(t, s, "ops"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := js.AccountInfo(ctx)
	if err != nil || info.Limits.MaxStore <= 0 || info.Limits.MaxStreams <= 0 || info.Limits.MaxConsumers <= 0 {
		t.Errorf("the account's limits are %+v, %v; want all of them set", info, err)
	}
}
