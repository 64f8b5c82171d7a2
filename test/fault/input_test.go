//go:build fault && linux

package fault_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"rollcall/internal/faulttest"
	"rollcall/internal/history"
	"rollcall/internal/jobs"
)

// TestBadInput publishes what no sane producer would. Every job that the broker accepts ends,
// and the worker lives.
func TestBadInput(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing", "search"})
	s.Setup()
	w := s.Start("ROLLCALL_MAX_ATTEMPTS", "2")
	for _, body := range badBodies() {
		for _, header := range badHeaders() {
			m := nats.NewMsg("jobs.bad")
			m.Header, m.Data = header, body
			s.Load.Send(m, patience)
		}
	}
	for _, subject := range []string{
		"jobs." + strings.Repeat("x", 200), "jobs" + strings.Repeat(".a", 100), "jobs.$JS.ACK.x", "jobs.ünï.código",
		"jobs.<script>", "jobs.%00", `jobs.a"b`, `jobs.a\b`, "jobs.done.batches.x",
	} {
		s.Load.Send(&nats.Msg{Subject: subject, Data: []byte("{}")}, patience)
	}
	s.Load.Publish(100, patience)
	h := s.Judge(patience, history.History{Calm: true})
	ended := map[jobs.Outcome]int{}
	for _, e := range h.Events {
		for _, job := range e.Data.Jobs {
			ended[job.Outcome]++
		}
	}
	t.Logf("ended: %v", ended)
	if ended["invalid"] == 0 || ended["succeeded"] < 100 {
		t.Errorf("ended %v; want some invalid, and most fine", ended)
	}
	if !w.Running() || !w.Ready() {
		t.Error("the worker did not survive")
	}
}

func badBodies() [][]byte {
	return [][]byte{
		nil, {0}, {0xff, 0xfe}, []byte("\xef\xbb\xbf{}"), []byte("{"), []byte(`{"a":1,"a":2}`), []byte("1e400"),
		[]byte(`"\ud800"`), []byte("null"), []byte("not json"), []byte("<script>alert(1)</script>"), []byte("\u2028"),
		[]byte(strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)),
		[]byte(strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000)),
		bytes.Repeat([]byte("x"), 900<<10), bytes.Repeat([]byte{0xff}, 700<<10),
		[]byte(`{"specversion":"1.0","id":"` + strings.Repeat("i", 5000) + `","source":"s","type":"t","data":{}}`),
	}
}

func badHeaders() []nats.Header {
	return []nats.Header{
		{},
		{"ce-id": {"same"}, "ce-type": {"same"}},
		{"Rollcall-Deadline": {"tomorrow"}},
		{"Content-Type": {"application/cloudevents+json"}},
		{"CONTENT-TYPE": {"Application/CloudEvents+JSON; charset=utf-8"}, "CE-ID": {"x"}},
		{"ce-id": {strings.Repeat("long", 1000)}, "traceparent": {"00-zz"}, "ce-time": {"yesterday"}},
		{"ce-id": {"</script><img src=x onerror=alert(1)>"}, "Content-Type": {"text/plain"}},
	}
}

// TestBadServices answers in every wrong way there is, at random; every job ends all the same, those
// whose attempts are not burnt by it at their age.
func TestBadServices(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing", "search", "mail"})
	s.Env = s.Env.With("ROLLCALL_MAX_ATTEMPTS", "3", "ROLLCALL_RETRY_MAX", "300ms", "ROLLCALL_JOB_MAX_AGE", "20s",
		"ROLLCALL_SVC_SEARCH_TIMEOUT", "200ms", "ROLLCALL_SVC_SEARCH_TRIES", "1", "ROLLCALL_SVC_BILLING_MAX_REPLY", "64KiB")
	bad := []func(faulttest.Request) faulttest.Answer{
		func(faulttest.Request) faulttest.Answer { return faulttest.Answer{} },
		func(faulttest.Request) faulttest.Answer { return faulttest.Answer{Body: "<html>"} },
		func(faulttest.Request) faulttest.Answer { return faulttest.Answer{Body: `{"results":[]}`} },
		func(r faulttest.Request) faulttest.Answer {
			return faulttest.Answer{Body: fmt.Sprintf(`{"batchItemFailures":[{"itemIdentifier":%q}]}`, r.Jobs[0].ID)}
		},
		func(r faulttest.Request) faulttest.Answer {
			return faulttest.Answer{Body: fmt.Sprintf(`{"statuses":[{"entryId":%q,"status":"DROP"}]}`, r.Jobs[0].ID)}
		},
		func(faulttest.Request) faulttest.Answer { return faulttest.Answer{Body: strings.Repeat("x", 200<<10)} },
		func(faulttest.Request) faulttest.Answer { return faulttest.Answer{Status: http.StatusBadRequest} },
		func(faulttest.Request) faulttest.Answer {
			return faulttest.Answer{Status: http.StatusTemporaryRedirect, Header: http.Header{"Location": {"/elsewhere"}}}
		},
		func(faulttest.Request) faulttest.Answer {
			return faulttest.Answer{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"1000000000"}}}
		},
		func(faulttest.Request) faulttest.Answer {
			return faulttest.Answer{Status: http.StatusInternalServerError}
		},
		faulttest.Each(func(faulttest.Asked) string { return "retry" }),
		faulttest.Each(func(faulttest.Asked) string { return "fail" }),
	}
	s.Services[0].Answer(func(r faulttest.Request) faulttest.Answer { return bad[r.Number%len(bad)](r) })
	s.Services[1].Answer(func(r faulttest.Request) faulttest.Answer { return faulttest.Answer{Hang: r.Number%9 == 0} })
	s.Setup()
	s.Start()
	s.Load.Publish(400, patience)
	h := s.Judge(2*patience, history.History{Calm: true})
	for _, c := range h.Calls {
		if c.UID == "" || c.Source == "" {
			t.Fatalf("a call without a name: %+v", c)
		}
	}
}
