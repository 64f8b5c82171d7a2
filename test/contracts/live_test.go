package contracts_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"rollcall/internal/app"
	"rollcall/internal/bus"
	"rollcall/internal/devkit"
	"rollcall/internal/devkit/devkittest"
	"rollcall/internal/operate"
)

// limit bounds everything that has to happen.
const limit = time.Minute

// trace is the context of a producer's span.
const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// traffic is what a pool and everybody around it sent, by the channels of the AsyncAPI document.
type traffic struct {
	mu       sync.Mutex
	channels map[string]string // subject pattern by name of the channel
	messages map[string][]*nats.Msg
	strange  []string
	changed  chan struct{}
}

// add notes a message under its channel.
func (tr *traffic) add(m *nats.Msg) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	found := false
	for name, pattern := range tr.channels {
		if covers(pattern, m.Subject) {
			found = true
			tr.messages[name] = append(tr.messages[name], m)
		}
	}
	if !found && !private(m.Subject) {
		tr.strange = append(tr.strange, m.Subject)
	}
	select {
	case tr.changed <- struct{}{}:
	default:
	}
}

// heard is add for a plain subscription. What that has of DONE is not committed, so watch reads it;
// what the server delivers to consumers was published before.
func (tr *traffic) heard(m *nats.Msg) {
	if !strings.HasPrefix(m.Subject, "done.") && !strings.HasPrefix(m.Reply, "$JS.ACK.") {
		tr.add(m)
	}
}

// private reports whether a subject is Rollcall's own, the server's or a client's.
func private(subject string) bool {
	for _, prefix := range []string{"$JS.", "$JSC.", "$SRV.", "_INBOX.", "done.ledger.", "rollcall."} {
		if strings.HasPrefix(subject, prefix) {
			return true
		}
	}
	return false
}

// covers reports whether a pattern with * and a final > matches a subject.
func covers(pattern, subject string) bool {
	want, got := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, token := range want {
		if token == ">" {
			return len(got) > i
		}
		if i >= len(got) || token != "*" && token != got[i] {
			return false
		}
	}
	return len(want) == len(got)
}

// await waits until enough is seen.
func (tr *traffic) await(t *testing.T, what string, enough func() bool) {
	t.Helper()
	deadline := time.After(limit)
	for {
		tr.mu.Lock()
		done := enough()
		tr.mu.Unlock()
		if done {
			return
		}
		select {
		case <-tr.changed:
		case <-deadline:
			t.Fatalf("%s was not seen within %v", what, limit)
		}
	}
}

// saw counts the messages of a channel that hold a text in subject or body. The caller holds mu.
func (tr *traffic) saw(channel, text string) (n int) {
	for _, m := range tr.messages[channel] {
		if strings.Contains(m.Subject+" "+string(m.Data), text) {
			n++
		}
	}
	return n
}

// stage is a broker, two services on NATS and a pool that has worked on jobs of every kind.
func stage(t *testing.T) *traffic {
	t.Helper()
	server := devkittest.Start(t, devkit.Options{Dir: t.TempDir()})
	nc, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	tr := &traffic{channels: addresses(t), messages: map[string][]*nats.Msg{}, changed: make(chan struct{}, 1)}
	for subject, note := range map[string]nats.MsgHandler{
		">": tr.heard, "svc.billing": tr.answer("results"), "svc.index": tr.answer("statuses"), "svc.mail": tr.answer("batchItemFailures"), "svc.tax": tr.answer("results"),
		"svc.events.*": tr.take("serviceOfEvents"), "svc.bodies": tr.take("serviceOfBodies"),
	} {
		if _, err := nc.Subscribe(subject, note); err != nil {
			t.Fatal(err)
		}
	}
	const secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	cfg := load(t, "NATS_URL="+server.URL(), "ROLLCALL_RETRY_MIN=10ms", "ROLLCALL_BATCH_KEY=subject",
		"ROLLCALL_SERVICES=billing=nats://svc.billing,index=nats://svc.index,mail=nats://svc.mail,events=nats://svc.events.{subject:2},bodies=nats://svc.bodies",
		"ROLLCALL_SVC_EVENTS_FORMAT=event", "ROLLCALL_SVC_BODIES_FORMAT=plain",
		"ROLLCALL_SVC_BILLING_SECRET="+secret, "ROLLCALL_SVC_EVENTS_SECRET="+secret, "ROLLCALL_SVC_BODIES_SECRET="+secret)
	if _, err := app.Setup(t.Context(), cfg, zerolog.Nop(), app.Options{}, false); err != nil {
		t.Fatal(err)
	}
	if _, err := app.Archive(t.Context(), cfg, zerolog.Nop(), app.Options{}, 30*24*time.Hour, 0, false); err != nil {
		t.Fatal(err)
	}
	run(t, cfg)
	tr.watch(t, nc, bus.StreamLater, "due.>") // plain subscribers do not get what the server publishes there
	tr.watch(t, nc, bus.StreamDone, "done.>")
	tr.watch(t, nc, bus.StreamHistory, "history.>")
	tr.produce(t, nc)
	tr.request(t, nc, load(t, "NATS_URL="+server.URL(), "ROLLCALL_SOURCE=core", "ROLLCALL_POOL=quotes", "ROLLCALL_SUBJECTS=quotes.>",
		"ROLLCALL_SERVICES=price=nats://svc.billing,tax=nats://svc.tax"))
	tr.await(t, "an attempt of the job to cancel", func() bool { return tr.saw("batchEvents", `"id":"cancel-me"`) > 0 })
	conn, err := bus.Connect(t.Context(), cfg.NATS, "contracts", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	admin := operate.NewAdmin(conn, cfg.Streams, cfg.Pool)
	if _, err := admin.Cancel(t.Context(), "contracts", "cancel-me"); err != nil {
		t.Fatal(err)
	}
	for channel, texts := range map[string][]string{
		"batchEvents": {`"outcome":"cancelled"`, `"outcome":"expired"`, `"outcome":"invalid"`, `"outcome":"failed"`, `"outcome":"retrying"`, `"outcome":"succeeded"`, `"invoice":7`},
		"setEvents":   {"import-7"}, "storedSetEvents": {"import-7"}, "storedBatchEvents": {"done.batches"}, "deadLetters": {"bad-deadline"}, "due": {"due.mail"},
		"archivedBatchEvents": {"history.default.partial"},
	} {
		for _, text := range texts {
			tr.await(t, channel+" with "+text, func() bool { return tr.saw(channel, text) > 0 })
		}
	}
	tr.await(t, "a dead letter of each", func() bool { return tr.saw("deadLetters", "") == 4 })
	if _, err := admin.Erase(t.Context(), "contracts", "fail-me-too"); err != nil {
		t.Fatal(err)
	}
	for _, channel := range []string{"batchEvents", "setEvents"} {
		tr.await(t, channel+" after an erasure", func() bool { return tr.saw(channel, `"erased":true`) > 0 })
	}
	return tr
}

// load reads settings.
func load(t *testing.T, env ...string) app.Config {
	t.Helper()
	cfg, err := app.LoadRun(append(env, "ROLLCALL_HTTP_ADDR=127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// run runs a replica until the test ends.
func run(t *testing.T, cfg app.Config) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx, cfg, zerolog.Nop(), app.Options{Replica: "r-" + cfg.Pool}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// watch reads a part of a stream.
func (tr *traffic) watch(t *testing.T, nc *nats.Conn, stream, subject string) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.OrderedConsumer(t.Context(), stream, jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}})
	if err != nil {
		t.Fatal(err)
	}
	consuming, err := consumer.Consume(func(m jetstream.Msg) { tr.add(&nats.Msg{Subject: m.Subject(), Header: m.Headers(), Data: m.Data()}) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(consuming.Stop)
}

// produce publishes jobs of every kind.
func (tr *traffic) produce(t *testing.T, nc *nats.Conn) {
	t.Helper()
	at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339Nano) }
	for _, job := range []struct {
		subject, body string
		headers       []string
	}{
		{"jobs.traced", `{"to":"ann"}`, []string{"Nats-Msg-Id", "order-1", "traceparent", trace, "tracestate", "shop=1"}},
		{"jobs.mail", "plain text", nil},
		{"jobs.mail", "\xff\x00", []string{"Content-Type", "image/x"}},
		{"jobs.mail", "", []string{"Rollcall-Services", "billing"}},
		{"jobs.order.eu", `{"n":1}`, []string{"ce-specversion", "1.0", "ce-id", "event-7", "ce-source", "/shop", "ce-type", "com.example.order", "ce-tenant", "acme", "ce-dataschema", "https://example.com/s",
			"ce-subject", "order/7", "ce-time", "2026-01-31T12:00:00Z", "ce-datacontenttype", "application/json"}},
		{"jobs.order.eu", `{"specversion":"1.0","id":"s-1","source":"/shop","type":"cart","priority":3,"urgent":true,"data":[1]}`, []string{"Content-Type", "application/cloudevents+json"}},
		{"jobs.mail", "{}", []string{"Nats-Msg-Id", "fail-me"}},
		{"jobs.mail", "{}", []string{"Nats-Msg-Id", "retry-me"}},
		{"jobs.slow", "{}", []string{"Nats-Msg-Id", "cancel-me"}},
		{"jobs.mail", "{}", []string{"Nats-Msg-Id", "late", "Rollcall-Deadline", at(-time.Hour)}},
		{"jobs.mail", "bad-deadline", []string{"Nats-Msg-Id", "invalid", "Rollcall-Deadline", "soon"}},
		{"jobs.mail", "{}", []string{"Nats-Msg-Id", "row-1", "Rollcall-Set", "import-7", "Rollcall-Set-Size", "3"}},
		{"jobs.mail", "{}", []string{"Nats-Msg-Id", "row-2", "Rollcall-Set", "import-7", "Rollcall-Deadline", at(time.Hour)}},
		{"jobs.mail", "{}", []string{"Nats-Msg-Id", "fail-me-too", "Rollcall-Set", "import-7"}},
		{"jobs.order.once", "{}", []string{"Nats-Expected-Last-Subject-Sequence", "0", "Rollcall-Replay-Of", "e.1"}},
		{"later.order-9", "{}", []string{"Nats-Schedule", "@at " + at(time.Second), "Nats-Schedule-Target", "due.mail"}},
		{"later.cron.nightly", "{}", []string{"Nats-Schedule", "0 0 3 * * *", "Nats-Schedule-Time-Zone", "Europe/Berlin", "Nats-Schedule-Target", "due.report"}},
		{"later.debounce.tenant-4", "{}", []string{"Nats-Schedule", "@at " + at(time.Hour), "Nats-Schedule-Target", "due.reindex"}},
	} {
		m := nats.NewMsg(job.subject)
		m.Data = []byte(job.body)
		for i := 0; i < len(job.headers); i += 2 {
			m.Header[job.headers[i]] = []string{job.headers[i+1]}
		}
		if ack, err := nc.RequestMsg(m, limit); err != nil || strings.Contains(string(ack.Data), `"error"`) {
			t.Fatalf("%s: %v, %+v", job.subject, err, ack)
		}
	}
}

// request asks a pool in core mode for one job after the other: one whose entry fits into a message,
// and one whose entry does not.
func (tr *traffic) request(t *testing.T, nc *nats.Conn, cfg app.Config) {
	t.Helper()
	run(t, cfg)
	for _, id := range []string{"quote", "huge"} {
		m := nats.NewMsg("quotes.eu")
		m.Header.Set("Nats-Msg-Id", id)
		for deadline := time.Now().Add(limit); ; {
			reply, err := nc.RequestMsg(m, 2*time.Second)
			if errors.Is(err, nats.ErrTimeout) && time.Now().Before(deadline) {
				continue // the pool had not subscribed yet, and nobody keeps what is sent before
			}
			if err != nil {
				t.Fatal(err)
			}
			tr.note("coreJobs", m)
			tr.note("coreReply", reply)
			break
		}
	}
}

// note files a message under a channel that has no address.
func (tr *traffic) note(channel string, m *nats.Msg) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.messages[channel] = append(tr.messages[channel], m)
}

// take is a service that gets one job per request.
func (tr *traffic) take(channel string) nats.MsgHandler {
	return func(m *nats.Msg) {
		tr.note(channel, m)
		tr.note("singleReply", &nats.Msg{Header: nats.Header{}})
		_ = m.Respond(nil)
	}
}

// answer is a service that speaks one dialect, and keeps what it answers.
func (tr *traffic) answer(dialect string) nats.MsgHandler {
	tried := map[string]bool{}
	return func(m *nats.Msg) {
		var calls []struct{ ID, RollcallUID string }
		if err := json.Unmarshal(m.Data, &calls); err != nil {
			return
		}
		list := []map[string]any{}
		for _, c := range calls {
			first := !tried[c.RollcallUID]
			tried[c.RollcallUID] = true
			word := 0 // of ok, retry, fail
			switch {
			case strings.HasPrefix(c.ID, "fail-me"):
				word = 2
			case c.ID == "retry-me" && first, c.ID == "cancel-me":
				word = 1
			}
			switch dialect {
			case "results":
				entry := map[string]any{"id": c.RollcallUID, "status": []string{"ok", "retry", "fail"}[word]}
				switch word {
				case 0:
					entry["data"] = map[string]any{"invoice": 7}
					if c.ID == "huge" { // with another such answer, more than a message holds
						entry["data"] = strings.Repeat("x", 600<<10)
					}
				case 1:
					entry["error"], entry["retry_after"] = "busy", "10ms"
				}
				if c.ID == "cancel-me" {
					entry["retry_after"] = 300
				}
				list = append(list, entry)
			case "statuses":
				list = append(list, map[string]any{"entryId": c.ID, "status": []string{"SUCCESS", "RETRY", "DROP"}[word]})
			default:
				if word == 1 && c.ID != "cancel-me" {
					list = append(list, map[string]any{"itemIdentifier": c.ID})
				}
			}
		}
		body, _ := json.Marshal(map[string]any{dialect: list}) // maps of strings and numbers
		tr.note("service", m)
		tr.note("serviceReply", &nats.Msg{Header: nats.Header{}, Data: body})
		_ = m.Respond(body)
	}
}

// headers are names and first values, as the schemas have them, without those that are the
// producer's own on their way through.
func headers(channel string, m *nats.Msg) map[string]any {
	all := map[string]any{}
	for name, values := range m.Header {
		if channel != "deadLetters" || !slices.Contains(producers, name) {
			all[name] = values[0]
		}
	}
	if channel == "serviceOfEvents" {
		for _, name := range []string{"ce-tenant", "ce-priority", "ce-urgent"} {
			delete(all, name)
		}
	}
	return all
}

// producers are the headers that a dead letter has of the jobs that produce makes.
var producers = []string{"Rollcall-Set", "Rollcall-Set-Size", "Rollcall-Deadline"}

// TestLiveTrafficIsAsTheContractsSay lets a pool work and holds everything that is sent against the
// documents, which must describe all of it. Then it changes one field after the other, and every
// change must be noticed.
func TestLiveTrafficIsAsTheContractsSay(t *testing.T) {
	t.Parallel()
	tr := stage(t)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	// The subjects of services, and those without a stream, are the people's.
	tr.strange = slices.DeleteFunc(tr.strange, func(s string) bool { return strings.HasPrefix(s, "svc.") || strings.HasPrefix(s, "quotes.") })
	if len(tr.strange) > 0 {
		t.Errorf("subjects that asyncapi.yaml does not have: %v", tr.strange)
	}
	for name, channel := range channels(t) {
		seen := tr.messages[name]
		if len(seen) == 0 {
			t.Errorf("nothing was sent on the channel %s", name)
		}
		for _, m := range seen {
			if channel.headers != nil {
				broken := name == "jobs" && string(m.Data) == "bad-deadline" // it became invalid for that
				if err := channel.headers.Validate(headers(name, m)); (err != nil) != broken {
					t.Errorf("headers on %s: %v", m.Subject, err)
				}
			}
			if channel.payload == nil {
				continue
			}
			doc := decode(t, m.Data)
			if err := channel.payload.Validate(doc); err != nil {
				t.Errorf("%s: %v\n%s", name, err, m.Data)
			}
		}
		if channel.payload != nil && name != "serviceReply" { // replies are not ours, and may hold more
			for _, m := range seen {
				tryChanges(t, name, channel.payload, m.Data)
			}
		}
	}
	tr.everythingIsSent(t)
}

// free are fields, by channel, that have names which are not ours.
var free = map[string][]string{
	"service":   {"/#/data/", "/#/tenant", "/#/priority", "/#/urgent"},
	"coreReply": {"/data/", "/services/"},
}

// freeOfEvents are those of every other channel.
var freeOfEvents = []string{"/data/jobs/#/data/", "/data/jobs/#/services/"}

// tryChanges renames each field of a document in turn; the schema must notice each.
func tryChanges(t *testing.T, name string, schema interface{ Validate(any) error }, text []byte) {
	t.Helper()
	doc := decode(t, text)
	others, found := free[name]
	if !found {
		others = freeOfEvents
	}
	var walk func(at string, v any)
	walk = func(at string, v any) {
		switch v := v.(type) {
		case []any:
			for _, inner := range v {
				walk(at+"/#", inner)
			}
		case map[string]any:
			for key, inner := range v {
				place := at + "/" + key
				if slices.ContainsFunc(others, func(f string) bool { return strings.HasPrefix(place, f) }) {
					continue
				}
				delete(v, key)
				v[key+"_changed"] = inner
				if schema.Validate(doc) == nil {
					t.Errorf("%s: nobody notices that %s has another name", name, place)
				}
				delete(v, key+"_changed")
				if _, anything := inner.(map[string]any); !anything {
					v[key] = map[string]any{"changed": fmt.Sprint(inner)}
					if place != "/#/data" && schema.Validate(doc) == nil {
						t.Errorf("%s: nobody notices that %s is of another type", name, place)
					}
				}
				v[key] = inner
				walk(place, inner)
			}
		}
	}
	walk("", doc)
}
