package service_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"rollcall/internal/service"
)

func TestAskCallsWithAnEmptyBatch(t *testing.T) {
	t.Parallel()
	for status, test := range map[int]struct {
		says  string
		wrong bool
	}{
		200: {"accepts", false}, 422: {"no jobs in it", false}, 400: {"no jobs in it", false},
		401: {"no jobs in it", true}, 404: {"no jobs in it", true}, 302: {"redirects", true}, 503: {"no jobs in it", true},
	} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			var got collector
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				got.ServeHTTP(w, r)
				if w.WriteHeader(status); status != 200 {
					_, _ = io.WriteString(w, "no jobs in it")
				}
			})
			cfg := config()
			cfg.Tries = 1
			said, err := service.Ref{Name: "billing", URL: url}.Ask(t.Context(), cfg, service.Deps{})
			if a := got.one(t); a.Body != "[]" || a.Header.Get("Content-Type") != "application/cloudevents-batch+json" {
				t.Errorf("the service got %+v", a)
			}
			text := said
			if err != nil {
				text = err.Error()
			}
			if (err != nil) != test.wrong || !strings.Contains(text, test.says) {
				t.Errorf("said %q, error %v; want %q, error %v", said, err, test.says, test.wrong)
			}
		})
	}
}

// TestAskTriesAgainAsACallDoes: one 500 among many replies is no fault of the set-up.
func TestAskTriesAgainAsACallDoes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		refusals, tries, asked int32
		wrong                  bool
	}{
		"one 500": {refusals: 1, tries: 3, asked: 2}, "nothing else": {refusals: 9, tries: 3, asked: 3, wrong: true},
		"one try": {refusals: 1, tries: 1, asked: 1, wrong: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if asked.Add(1) <= test.refusals {
					w.WriteHeader(http.StatusInternalServerError)
				}
			})
			cfg := config()
			cfg.Tries = int(test.tries)
			said, err := service.Ref{Name: "billing", URL: url}.Ask(t.Context(), cfg, service.Deps{})
			if (err != nil) != test.wrong || asked.Load() != test.asked {
				t.Errorf("said %q, error %v after %d requests; want %d, error %v", said, err, asked.Load(), test.asked, test.wrong)
			}
		})
	}
}

func TestAskOnlyConnectsWhereARequestNeedsAJob(t *testing.T) {
	t.Parallel()
	var got collector
	ref := service.Ref{Name: "billing", URL: serve(t, got.ServeHTTP) + "/{id}"}
	if said, err := ref.Ask(t.Context(), formatted(service.FormatPlain), service.Deps{}); err != nil || said == "" || len(got.got) != 0 {
		t.Errorf("%q, %v, %d requests", said, err, len(got.got))
	}
	if _, err := (service.Ref{Name: "index", URL: "nats://svc.index"}).Ask(t.Context(), config(), service.Deps{}); !errors.Is(err, service.ErrNotTried) {
		t.Errorf("on NATS: %v", err)
	}
}
