package interop_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

// echoed is what go-httpbin's /anything says of a request.
type echoed struct {
	Method  string              `json:"method"`
	URL     string              `json:"url"`
	Args    map[string][]string `json:"args"`
	Headers http.Header         `json:"headers"`
	Data    string              `json:"data"`
	JSON    json.RawMessage     `json:"json"`
}

// hostile are values that want to leave their place.
var hostile = []string{"a/b", "..", ".", "x?y=1", "x#y", "x&y=1", "%2e%2e", "a b", "é€", "//evil.example/", "@evil.example", "\\..\\", ";p=1", "{id}"}

// orders returns a call for one job for each hostile value.
func orders(t *testing.T) *jobs.Call {
	t.Helper()
	c := &jobs.Call{BatchID: "0190b0c4-0000-7000-8000-000000000001", Pool: "default", Service: "billing", Key: "k"}
	for i, value := range hostile {
		body, err := json.Marshal(map[string]any{"sku": value, "n": i})
		if err != nil {
			t.Fatal(err)
		}
		j := jobs.Decode(jobs.Delivery{Subject: "jobs.order", Data: body, Ref: jobs.Ref{Epoch: "e", Seq: uint64(i + 1)}, Header: map[string][]string{"X-Tenant": {"acme"}}}, 0)
		c.Jobs = append(c.Jobs, &j)
	}
	return c
}

func plain() service.Config {
	cfg := config()
	cfg.Format, cfg.Keep = service.FormatPlain, true
	return cfg
}

// TestHTTPBinEchoesPlainRequests has values with everything that means something in a URL arrive
// as one segment of a path, and as one value of a query.
func TestHTTPBinEchoesPlainRequests(t *testing.T) {
	t.Parallel()
	for _, method := range []string{http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete, http.MethodGet} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			cfg, base := plain(), bin(t)
			cfg.Method, cfg.Headers = method, jobs.NewSecret("X-Api-Key:secret,X-For:{header:x-tenant}-{attempt}")
			c := orders(t)
			r := newService(t, base+"/anything/stock/{data:/sku}?sku={data:/sku}&n={data:/n}", cfg).Call(t.Context(), c)
			if r.Failure != nil {
				t.Fatal(r.Failure)
			}
			for i, reply := range r.Replies {
				var got echoed
				if err := json.Unmarshal(reply.Data, &got); err != nil || reply.Status != jobs.StatusOK {
					t.Fatalf("%q: %+v", hostile[i], reply)
				}
				path, _, _ := strings.Cut(strings.TrimPrefix(got.URL, base), "?")
				if got.Method != method || strings.Count(path, "/") != 3 || !strings.HasPrefix(path, "/anything/stock/") || strings.HasSuffix(path, ".") {
					t.Errorf("%q went to %s %s", hostile[i], got.Method, got.URL)
				}
				if len(got.Args) != 2 || got.Args["sku"][0] != hostile[i] || got.Args["n"][0] != fmt.Sprint(i) {
					t.Errorf("%q: query %v", hostile[i], got.Args)
				}
				if got.Headers.Get("X-Api-Key") != "secret" || got.Headers.Get("X-For") != "acme-1" || got.Headers.Get("Idempotency-Key") != `"`+c.Jobs[i].UID+`:billing"` {
					t.Errorf("headers %v", got.Headers)
				}
				if sends := method != http.MethodGet && method != http.MethodDelete; sends != (string(got.JSON) != "null" && len(got.JSON) > 0) {
					t.Errorf("%s with the body %s", method, got.JSON)
				}
			}
		})
	}
}

// TestHTTPBinAsServicesThatTakeOneJob reads its statuses and bodies in the formats event and plain.
func TestHTTPBinAsServicesThatTakeOneJob(t *testing.T) {
	t.Parallel()
	condition := func(text string) (c service.Condition) {
		if err := c.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, test := range map[string]struct {
		path   string
		edit   func(*service.Config)
		status jobs.Status
		free   bool
	}{
		"a success":            {"/status/200", nil, jobs.StatusOK, false},
		"a success, no body":   {"/status/204", nil, jobs.StatusOK, false},
		"not found":            {"/status/404", nil, jobs.StatusFail, false},
		"a 500":                {"/status/500", nil, jobs.StatusRetry, false},
		"not now":              {"/status/429", nil, jobs.StatusRetry, true},
		"a page":               {"/html", nil, jobs.StatusOK, false},
		"no token":             {"/bearer", nil, jobs.StatusRetry, true},
		"a token":              {"/bearer", func(c *service.Config) { c.Token = jobs.NewSecret("tok") }, jobs.StatusOK, false},
		"a redirect":           {"/redirect/1", nil, jobs.StatusRetry, true},
		"a success that fails": {"/anything/{data:/n}", func(c *service.Config) { c.FailIf = condition("/method=POST|PUT") }, jobs.StatusFail, false},
		"a success that waits": {"/anything/{data:/n}", func(c *service.Config) { c.RetryIf = condition("/method=POST") }, jobs.StatusRetry, false},
		"neither of them":      {"/anything/{data:/n}", func(c *service.Config) { c.RetryIf = condition("/method=busy") }, jobs.StatusOK, false},
		"a hole without job":   {"/anything/{data:/none}", nil, jobs.StatusFail, false},
	} {
		for _, format := range []service.Format{service.FormatEvent, service.FormatPlain} {
			t.Run(name+" "+format.String(), func(t *testing.T) {
				t.Parallel()
				cfg := config()
				cfg.Format, cfg.Tries = format, 1
				if test.edit != nil {
					test.edit(&cfg)
				}
				c := orders(t)
				c.Jobs = c.Jobs[:1]
				r := newService(t, bin(t)+test.path, cfg).Call(t.Context(), c)
				if r.Failure != nil || len(r.Replies) != 1 || r.Replies[0].Status != test.status || r.Replies[0].Free != test.free {
					t.Errorf("got %+v, want %v, free %v", r, test.status, test.free)
				}
			})
		}
	}
}
