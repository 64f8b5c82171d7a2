package service_test

import (
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/kelseyhightower/envconfig"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

// shop answers as the three services of the page do, and notes what it was asked.
type shop struct {
	mu   sync.Mutex
	seen map[string]int
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	line := r.Method + " " + r.URL.Path
	s.seen[line]++
	switch line {
	case "POST /v1/orders/17/invoice":
		_, _ = io.WriteString(w, `{"invoice":7}`)
	case "PUT /v1/stock/a/b": // the path as it is read: the request says a%2Fb
		if r.Header.Get("X-Api-Key") != "s3cret" || r.Header.Get("X-Tenant") != "acme" || r.URL.EscapedPath() != "/v1/stock/a%2Fb" {
			w.WriteHeader(http.StatusForbidden)
		}
	case "POST /send":
		if strings.Contains(string(body), "nobody@") {
			_, _ = io.WriteString(w, `{"status":"error","message":"no such box"}`)
			return
		}
		_, _ = io.WriteString(w, `{"status":"queued","message_id":1}`)
	default:
		w.WriteHeader(http.StatusTeapot)
	}
}

// TestTheServicesThatExistAlready runs the settings of the page against services like those that
// it speaks of. It is not parallel: it sets variables of the process.
func TestTheServicesThatExistAlready(t *testing.T) {
	page, err := os.ReadFile("../../docs/services.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(page), "ROLLCALL_SERVICES=invoice=")
	block, _, _ = strings.Cut("ROLLCALL_SERVICES=invoice="+block, "```")
	if !found {
		t.Fatal("the page has lost its example")
	}
	for line := range strings.Lines(block) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if name != "" && !strings.Contains(name, "_OAUTH_") {
			t.Setenv(name, value)
		}
	}
	services := &shop{seen: map[string]int{}}
	url := serve(t, services.ServeHTTP)
	refs, err := service.ParseServices(os.Getenv("ROLLCALL_SERVICES"))
	if err != nil || len(refs) != 3 {
		t.Fatalf("%v, %v", refs, err)
	}
	c := callOf(
		jobs.Delivery{Data: []byte(`{"order":{"id":17},"sku":"a/b","to":"ann@example.com"}`), Header: map[string][]string{"X-Tenant": {"acme"}}},
		jobs.Delivery{Data: []byte(`{"order":{"id":17},"sku":"a/b","to":"nobody@example.com"}`), Header: map[string][]string{"X-Tenant": {"acme"}}},
	)
	want := map[string][]jobs.Status{"invoice": {ok, ok}, "stock": {ok, ok}, "mail": {ok, fail}}
	for _, ref := range refs {
		var cfg service.Config
		if err := envconfig.Process("", cfg.Spec(ref.Name)); err != nil {
			t.Fatal(err)
		}
		_, path, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(ref.URL, "https://"), "http://"), "/")
		r := newService(t, url+"/"+path, cfg, service.Deps{}).Call(t.Context(), c)
		if r.Failure != nil || r.Tries != 2 || r.Replies[0].Status != want[ref.Name][0] || r.Replies[1].Status != want[ref.Name][1] {
			t.Errorf("%s: %+v", ref.Name, r)
		}
		if ref.Name == "invoice" && string(r.Replies[0].Data) != `{"invoice":7}` {
			t.Errorf("kept %s", r.Replies[0].Data)
		}
	}
	for line, n := range services.seen {
		if n != 2 {
			t.Errorf("%s was called %d times for two jobs", line, n)
		}
	}
}
