package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"rollcall/internal/service"
)

func TestCheckOfAServiceNeedsNoBroker(t *testing.T) {
	t.Parallel()
	good := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(good.Close)
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	t.Cleanup(broken.Close)
	env := []string{"NATS_URL=nats://127.0.0.1:1", "ROLLCALL_SERVICES=billing=" + broken.URL}

	byURL := worker(t, env, "check", good.URL, "-o", "json")
	if byURL.code != codeOK || byURL.stderr != "" {
		t.Errorf("a good service: exit %d, %s", byURL.code, byURL.stderr)
	}
	grades := map[string]service.Grade{}
	for _, f := range decode[[]service.Finding](t, byURL) {
		grades[f.Check] = f.Grade
	}
	if grades["sample"] != service.Good || grades["id used again"] != service.Doubtful || grades["large body"] != service.Good {
		t.Errorf("got %v", grades)
	}
	byName := worker(t, env, "check", "billing")
	if byName.code != codeFailed || !strings.Contains(byName.stdout, "answered 500") || !strings.Contains(byName.stderr, "found an error") {
		t.Errorf("a broken service: exit %d, stdout %q, stderr %q", byName.code, byName.stdout, byName.stderr)
	}
}

func TestCheckTakesTheSettingsOfAURL(t *testing.T) {
	t.Parallel()
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut || r.URL.Path != "/orders/17" {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(shop.Close)
	env := []string{"ROLLCALL_SVC_CHECK_FORMAT=plain", "ROLLCALL_SVC_CHECK_METHOD=PUT"}
	got := worker(t, env, "check", shop.URL+"/orders/{data:/id}", "--data", `{"id":17}`, "--header", "X-Tenant:acme")
	if got.code != codeOK || !strings.Contains(got.stdout, "done: 1 job") {
		t.Errorf("exit %d, stdout %q, stderr %q", got.code, got.stdout, got.stderr)
	}
}

func TestCheckOfAServiceOnNATS(t *testing.T) {
	t.Parallel()
	url := broker(t)
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if _, err := nc.Subscribe("svc.index", func(m *nats.Msg) { _ = m.Respond(nil) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := worker(t, []string{"NATS_URL=" + url}, "check", "nats://svc.index"); got.code != codeOK || !strings.Contains(got.stdout, "200, empty") {
		t.Errorf("exit %d, stdout %q, stderr %q", got.code, got.stdout, got.stderr)
	}
	if got := worker(t, []string{"NATS_URL=nats://127.0.0.1:1"}, "check", "nats://svc.index"); got.code != codeUnreachable {
		t.Errorf("without a server: exit %d, stderr %q", got.code, got.stderr)
	}
}

func TestCheckRefusesWhatItCannotUse(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"an unknown name":     {[]string{"billing"}, "no such service"},
		"a scheme of others":  {[]string{"ftp://127.0.0.1/x"}, "http://"},
		"a header":            {[]string{"http://127.0.0.1:1", "--header", "X-Tenant"}, "Name:value"},
		"a file":              {[]string{"http://127.0.0.1:1", "--file", "/no/such/file"}, "/no/such/file"},
		"a job that is none":  {[]string{"http://127.0.0.1:1", "--header", "Rollcall-Deadline:soon"}, "Rollcall-Deadline"},
		"no service at all":   {nil, "missing"},
		"a hole in a batch's": {[]string{"http://127.0.0.1:1/{id}"}, "ROLLCALL_SVC_CHECK_FORMAT"},
	} {
		if got := worker(t, nil, append([]string{"check"}, test.args...)...); got.code != codeUsage || !strings.Contains(got.stderr, test.says) {
			t.Errorf("%s: exit %d, stderr %q; want exit 2 and %q", name, got.code, got.stderr, test.says)
		}
	}
}
