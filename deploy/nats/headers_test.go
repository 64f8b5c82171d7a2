package nats_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// acting are headers that the server gives a meaning, in combinations that would do harm if it
// let them: server/stream.go (JS…), server/msgtrace.go (MsgTrace…). outside is a subject that
// the user may not publish to.
func acting(outside string) []nats.Header {
	soon := "@at " + time.Now().Add(time.Second).UTC().Format(time.RFC3339)
	schedule := func(pattern, target string, more ...string) nats.Header {
		h := nats.Header{"Nats-Schedule": {pattern}, "Nats-Schedule-Target": {target}}
		for i := 0; i+1 < len(more); i += 2 {
			h[more[i]] = []string{more[i+1]}
		}
		return h
	}
	headers := []nats.Header{
		{"Nats-Rollup": {"all"}}, {"Nats-Rollup": {"sub"}}, {"nats-rollup": {"all"}},
		{"KV-Operation": {"PURGE"}, "Nats-Rollup": {"sub"}}, {"KV-Operation": {"PURGE"}}, {"KV-Operation": {"DEL"}},
		{"Nats-TTL": {"1s"}}, {"Nats-TTL": {"never"}}, {"Nats-Marker-Reason": {"Purge"}}, {"Nats-Marker-Reason": {"MaxAge"}},
		{"Nats-Marker-Reason": {"Remove"}, "Nats-TTL": {"1s"}, "Nats-Rollup": {"sub"}},
		{"Nats-Incr": {"1"}}, {"Nats-Incr": {"-5"}, "Nats-Counter-Sources": {`{"JOBS":{"` + outside + `":"7"}}`}},
		{"Nats-Batch-Id": {"b"}, "Nats-Batch-Sequence": {"1"}}, {"Nats-Batch-Id": {"b"}, "Nats-Batch-Sequence": {"1"}, "Nats-Batch-Commit": {"1"}},
		{"Nats-Batch-Id": {"b"}, "Nats-Batch-Sequence": {"1"}, "Nats-Batch-Commit": {"eob"}},
		{"Nats-Expected-Stream": {"DONE"}}, {"Nats-Expected-Last-Sequence": {"0"}}, {"Nats-Expected-Last-Msg-Id": {"x"}},
		{"Nats-Expected-Last-Subject-Sequence": {"0"}},
		{"Nats-Expected-Last-Subject-Sequence": {"0"}, "Nats-Expected-Last-Subject-Sequence-Subject": {outside}},
		{"Nats-Scheduler": {outside}, "Nats-Schedule-Next": {"purge"}}, {"Nats-Scheduler": {outside}}, {"Nats-Schedule-Next": {"purge"}},
		{"Nats-Stream-Source": {"LATER 9 due.> jobs.> due.x"}}, {"Nats-Stream-Identity": {"x"}},
		{"Nats-Stream": {"DONE"}, "Nats-Subject": {outside}, "Nats-Sequence": {"1"}, "Nats-Time-Stamp": {"2026-01-01T00:00:00Z"}},
		{"Nats-Msg-Size": {"1"}}, {"Nats-Response-Type": {"error"}}, {"Nats-Required-Api-Level": {"99"}}, {"Nats-Pin-Id": {"x"}},
		{"Nats-Request-Info": {`{"acc":"ROLLCALL","user":"ops"}`}}, {"Nats-No-Masking": {"1"}}, {"Nats-Server-Xkey": {"x"}},
		{"Nats-Last-Consumer": {"1"}, "Nats-Last-Stream": {"1"}}, {"Nats-Consumer-Stalled": {outside}},
		{"Nats-Trace-Dest": {outside}}, {"Nats-Trace-Dest": {outside}, "Nats-Trace-Only": {"true"}},
		{"Nats-Trace-Dest": {outside}, "Nats-Trace-Origin-Account": {"ROLLCALL"}, "Nats-Trace-Hop": {"1"}},
		{"traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}, "Nats-Trace-Dest": {outside}},
	}
	for _, pattern := range []string{soon, "@every 1s", "* * * * * *", "@daily"} {
		headers = append(headers,
			schedule(pattern, outside), schedule(pattern, "due.payments"), schedule(pattern, outside, "Nats-Rollup", "all"),
			schedule(pattern, outside, "Nats-Schedule-Source", "jobs.payments.0"), schedule(pattern, outside, "Nats-Schedule-Rollup", "sub"),
			schedule(pattern, outside, "Nats-Schedule-TTL", "1s"), schedule(pattern, outside, "Nats-Schedule-Time-Zone", "Europe/Berlin"))
	}
	return headers
}

// holding counts the messages of each subject of a stream.
func holding(t *testing.T, js jetstream.JetStream, name string) map[string]uint64 {
	t.Helper()
	stream, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(">"))
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Subjects
}

// changed starts a server with the shipped configuration after replacements: pairs of what is
// there once, and what comes instead.
func changed(t *testing.T, pairs ...string) *server.Server {
	t.Helper()
	shipped, err := os.ReadFile("nats-server.conf")
	if err != nil {
		t.Fatal(err)
	}
	text := string(shipped)
	for i := 0; i+1 < len(pairs); i += 2 {
		if n := strings.Count(text, pairs[i]); n != 1 {
			t.Fatalf("the configuration has %d places like %q, want 1", n, pairs[i])
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "tls.conf"), "# empty\n")
	path := filepath.Join(dir, "nats-server.conf")
	write(t, path, text)
	return start(t, path)
}

// withScheduler turns the comment about delayed jobs into a user.
func withScheduler(t *testing.T) []string {
	t.Helper()
	shipped, err := os.ReadFile("nats-server.conf")
	if err != nil {
		t.Fatal(err)
	}
	begin := strings.Index(string(shipped), "      # {\n      #   user: scheduler")
	length := strings.Index(string(shipped)[begin:], "      # }\n") + len("      # }\n")
	comment := string(shipped)[begin : begin+length]
	return []string{comment, strings.ReplaceAll(comment, "      # ", "      ")}
}

// TestHeadersOfUsersTouchNobodyElse publishes everything that the server could take for an
// order, as each user, and looks what became of the jobs of others and of subjects outside of
// the user's rights.
func TestHeadersOfUsersTouchNobodyElse(t *testing.T) {
	t.Parallel()
	for user, c := range map[string]struct {
		change   []string
		subjects []string
		// outside are subjects that the user may not publish to.
		outside []string
		// lands are prefixes of the subjects where messages may appear.
		lands []string
	}{
		"producer": {
			change:   []string{`publish: ["jobs.>"]`, `publish: ["jobs.mail.>"]`},
			subjects: []string{"jobs.mail.x"}, lands: []string{"jobs.mail."},
			outside: []string{"jobs.payments.refund", "done.batches.default.succeeded.forged", "later.other", "due.other", "dead.default.jobs.x"},
		},
		"worker": {
			subjects: []string{"done.batches.mine.succeeded.b", "done.ledger.mine.x", "dead.mine.jobs.x"},
			lands:    []string{"done.batches.mine.", "done.ledger.mine.", "dead.mine."},
			outside:  []string{"jobs.payments.refund", "later.other", "due.other"},
		},
		"scheduler": {
			change: withScheduler(t), subjects: []string{"later.mine"}, lands: []string{"later.mine", "jobs.payments", "due.payments"},
			outside: []string{"done.batches.default.succeeded.forged", "due.other", "dead.default.jobs.x"},
		},
		"ops": {
			subjects: []string{"jobs.mail.x", "later.mine", "done.batches.mine.failed.b", "done.sets.mine.failed.s", "done.ledger.mine.x"},
			lands:    []string{"later.mine", "jobs.", "due.payments", "done.batches.mine.", "done.sets.mine.", "done.ledger.mine."},
			outside:  []string{"done.other", "due.other", "dead.default.jobs.x"},
		},
	} {
		t.Run(user, func(t *testing.T) {
			t.Parallel()
			s := changed(t, c.change...)
			js := provision(t, s)
			before := othersWork(t, s, js)
			nc := login(t, s, user)
			for _, subject := range c.subjects {
				order(t, nc, subject, c.outside)
			}
			compareWork(t, js, before, c.lands)
		})
	}
}

// othersWork stores jobs, an event and a dead letter that are none of the user's business.
func othersWork(t *testing.T, s *server.Server, js jetstream.JetStream) map[string]map[string]uint64 {
	t.Helper()
	for n := range 10 {
		if _, err := js.Publish(t.Context(), fmt.Sprintf("jobs.payments.%d", n), []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	worker := login(t, s, "worker")
	commit(t, worker)
	if _, err := worker.RequestWithContext(t.Context(), "dead.default.jobs.x", nil); err != nil {
		t.Fatal(err)
	}
	held := map[string]map[string]uint64{}
	for _, stream := range []string{"JOBS", "LATER", "DONE", "DEAD"} {
		held[stream] = holding(t, js, stream)
	}
	return held
}

// order publishes with every header to subject, and waits for the server's reply to each.
func order(t *testing.T, nc *nats.Conn, subject string, outside []string) {
	t.Helper()
	for _, target := range outside {
		for _, header := range acting(target) {
			m := &nats.Msg{Subject: subject, Header: header, Data: []byte("{}")}
			if header["Nats-Trace-Dest"] != nil {
				// A trace that the user may not ask for is dropped without a reply.
				if err := nc.PublishMsg(m); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if header["Nats-Batch-Id"] != nil && header["Nats-Batch-Commit"] == nil {
				continue // answered with nothing but an empty message
			}
			answer, err := nc.RequestMsgWithContext(t.Context(), m)
			if err != nil {
				t.Fatalf("%v on %s: %v", header, subject, err)
			}
			if schedule := header["Nats-Schedule"] != nil; schedule && !strings.HasPrefix(subject, "later.") && !strings.Contains(string(answer.Data), `"error"`) {
				t.Errorf("%v on %s was taken: %s", header, subject, answer.Data)
			}
		}
	}
	if err := nc.FlushTimeout(soon); err != nil {
		t.Fatal(err)
	}
}

// compareWork looks that what was there is there, and that nothing else is but on subjects
// that begin with one of lands.
func compareWork(t *testing.T, js jetstream.JetStream, before map[string]map[string]uint64, lands []string) {
	t.Helper()
	for stream, want := range before {
		got := holding(t, js, stream)
		for subject, n := range want {
			if got[subject] != n {
				t.Errorf("%s holds %d messages on %s, want %d as before", stream, got[subject], subject, n)
			}
		}
		for subject, n := range got {
			mine := slices.ContainsFunc(lands, func(prefix string) bool { return strings.HasPrefix(subject, prefix) })
			if want[subject] == 0 && !mine {
				t.Errorf("%d messages landed on %s, outside of the user's rights", n, subject)
			}
		}
	}
}
