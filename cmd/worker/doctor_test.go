package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"rollcall/internal/operate"
)

func TestDoctorPrintsFindingsAndExitsByThem(t *testing.T) {
	t.Parallel()
	service := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(service.Close)
	env := []string{"NATS_URL=" + broker(t), "ROLLCALL_SERVICES=billing=" + service.URL}

	missing := worker(t, append(env, "ROLLCALL_ENSURE=false"), "doctor")
	if missing.code != codeFailed || !strings.Contains(missing.stdout, "worker setup") || !strings.Contains(missing.stderr, "found an error") {
		t.Errorf("without streams: exit %d, stdout %q, stderr %q; want exit 1 and the remedy", missing.code, missing.stdout, missing.stderr)
	}
	if setup := worker(t, env, "setup"); setup.code != codeOK {
		t.Fatal(setup.stderr)
	}
	found := worker(t, env, "doctor", "-o", "json")
	if found.code != codeOK {
		t.Errorf("all set up: exit %d, %s", found.code, found.stderr)
	}
	health := map[string]operate.Health{}
	for _, f := range decode[[]operate.Finding](t, found) {
		health[f.Check] = f.Health
	}
	if health["permissions"] != operate.Well || health["service billing"] != operate.Well {
		t.Errorf("health %v, want permissions and billing to be well", health)
	}
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(elsewhere.Close)
	wrong := worker(t, append(env, "ROLLCALL_SERVICES=billing="+elsewhere.URL), "doctor")
	if wrong.code != codeFailed || !strings.Contains(wrong.stdout, "404") {
		t.Errorf("a wrong path: exit %d, stdout %q; want exit 1 and what the service said", wrong.code, wrong.stdout)
	}
}

func TestDoctorExitsFiveWithoutAServer(t *testing.T) {
	t.Parallel()
	env := []string{"NATS_URL=nats://127.0.0.1:1", "ROLLCALL_SERVICES=billing=http://127.0.0.1:1"}
	got := worker(t, env, "doctor")
	if got.code != codeUnreachable || !strings.Contains(got.stdout, "connection") || !strings.Contains(got.stdout, "service billing") {
		t.Errorf("exit %d, stdout %q, stderr %q; want exit 5 and every finding", got.code, got.stdout, got.stderr)
	}
}
