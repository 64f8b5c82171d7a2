package service_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

// corpus are values that want out of the place where they are put.
var corpus = []string{
	"plain", "a/b", "/", "//evil.example/x", "..", ".", "../..", "%2e%2e", "%2E.", "%2f", "\\..\\", "a b", "a+b", "x?y=1", "x#y", "x&y=1", "=", ";v=1", ":8080", "@evil.example",
	"http://evil.example/", "evil.example:80", "é€😀", "{id}", "{data:/sku}", "%", "%zz", "\x00", "a\r\nX-Evil: 1", "a\nb", "\x7f", "\t", "\"'<>", "HTTP/1.1", strings.Repeat("x", 5000), "\u202e", "*", ">", "a.b", "$JS.API", "~-_.",
}

// TestNothingAJobContainsLeavesItsPlace puts every value of the corpus into every hole there is.
func TestNothingAJobContainsLeavesItsPlace(t *testing.T) {
	t.Parallel()
	for _, format := range []service.Format{service.FormatEvent, service.FormatPlain} {
		t.Run(format.String(), func(t *testing.T) {
			t.Parallel()
			for _, value := range corpus {
				checkInPlace(t, format, value)
			}
		})
	}
}

// checkInPlace sends a job that has value wherever a job can have one.
func checkInPlace(t *testing.T, format service.Format, value string) {
	t.Helper()
	var got collector
	url := serve(t, got.ServeHTTP)
	s := newService(t, url+"/a/{data:/sku}/b/{header:x-v}?q={data:/sku}&r={id}", formatted(format, func(c *service.Config) {
		c.Headers = jobs.NewSecret("X-Sku:{header:x-v}")
	}), service.Deps{})
	body, _ := jsonOf(map[string]string{"sku": value})
	c := callOf(jobs.Delivery{Data: body, Header: map[string][]string{
		"x-v": {value}, "ce-id": {value}, "ce-type": {value}, "ce-subject": {value}, "ce-x": {value}, "Content-Type": {"application/json; v=" + value}, "traceparent": {value}, "tracestate": {value},
	}})
	r := s.Call(t.Context(), c)
	if r.Failure != nil {
		t.Fatalf("%q: %v", value, r.Failure)
	}
	if r.Replies[0].Status == fail {
		// Refused without a request: a line break cannot stand in a header.
		if len(got.got) != 0 || !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("%q: %+v after %d requests", value, r.Replies[0], len(got.got))
		}
		return
	}
	a := got.one(t)
	path, query, _ := strings.Cut(a.URI, "?")
	segments := strings.Split(path, "/")
	if a.Host != strings.TrimPrefix(url, "http://") || len(segments) != 5 || segments[1] != "a" || segments[3] != "b" || strings.Contains(query, "#") ||
		strings.Count(query, "&") != 1 || strings.Count(query, "=") != 2 || !strings.HasPrefix(query, "q=") {
		t.Errorf("%q: %s at %s", value, a.URI, a.Host)
	}
	for _, segment := range segments {
		if segment == "." || segment == ".." || strings.ContainsAny(segment, "?#\\ ") {
			t.Errorf("%q: segment %q", value, segment)
		}
	}
	if a.Header.Get("X-Evil") != "" || a.Header.Get("X-Sku") != strings.Trim(value, "\t ") || a.Body != string(body) {
		t.Errorf("%q: headers %v", value, a.Header)
	}
}

// FuzzHoles looks for a value that changes more of a request than its place.
func FuzzHoles(f *testing.F) {
	for _, value := range corpus {
		f.Add(value)
	}
	target := service.FillURL("http://billing.example:8080/a/{header:v}/b.{header:v}?q={header:v}")
	f.Fuzz(func(t *testing.T, value string) {
		c := callOf(jobs.Delivery{Header: map[string][]string{"v": {value}}})
		u, err := target(c.Jobs[0])
		if err != nil {
			if value != "" {
				t.Errorf("%q: %v", value, err)
			}
			return
		}
		if u.Scheme != "http" || u.Host != "billing.example:8080" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
			t.Errorf("%q leads to %v", value, u)
		}
		uri := u.RequestURI()
		path, query, _ := strings.Cut(uri, "?")
		segments := strings.Split(path, "/")
		if len(segments) != 4 || segments[1] != "a" || segments[2] == "." || segments[2] == ".." || strings.ContainsAny(uri, "# \r\n\\") {
			t.Errorf("%q gives %q", value, uri)
		}
		if got := u.Query(); len(got) != 1 || got.Get("q") != value || strings.ContainsAny(query, "&;+") {
			t.Errorf("%q gives the query %q", value, query)
		}
	})
}

func TestAHoleThatCannotBeFilledFailsItsJobAlone(t *testing.T) {
	t.Parallel()
	var got collector
	s := newService(t, serve(t, got.ServeHTTP)+"/orders/{data:/order/id}", formatted(service.FormatPlain), service.Deps{})
	r := s.Call(t.Context(), callOf(
		jobs.Delivery{Data: []byte(`{"order":{"id":1}}`)}, jobs.Delivery{Data: []byte(`{"order":{}}`)}, jobs.Delivery{Data: []byte(`{"order":{"id":""}}`)},
		jobs.Delivery{Data: []byte(`{"order":{"id":null}}`)}, jobs.Delivery{Data: []byte(`{"order":{"id":{}}}`)}, jobs.Delivery{Data: []byte(`text`)}, jobs.Delivery{Data: []byte(`{"order":{"id":true}}`)},
	))
	if r.Failure != nil || r.Tries != 2 {
		t.Fatalf("%+v", r)
	}
	if diff := cmp.Diff([]jobs.Status{ok, fail, fail, fail, fail, fail, ok}, statuses(r.Replies)); diff != "" {
		t.Error(diff)
	}
	for i := 1; i < 6; i++ {
		if reply := r.Replies[i]; !strings.Contains(reply.Error, "{data:/order/id}") || !reply.Unsent {
			t.Errorf("job %d: %+v", i, reply)
		}
	}
	if st := s.State(); st.Breaker != jobs.BreakerClosed || st.LastError != "" {
		t.Errorf("state %+v", st)
	}
}

func TestAHoleLooksIntoJSONUnderAnyContentType(t *testing.T) {
	t.Parallel()
	for _, contentType := range []string{"", "application/json", "text/plain", "application/octet-stream", "application/x-www-form-urlencoded"} {
		var got collector
		s := newService(t, serve(t, got.ServeHTTP)+"/orders/{data:/id}", formatted(service.FormatPlain), service.Deps{})
		r := s.Call(t.Context(), callOf(jobs.Delivery{Data: []byte(`{"id":7}`), Header: map[string][]string{"Content-Type": {contentType}}}))
		if r.Failure != nil || r.Replies[0].Status != ok {
			t.Fatalf("%q: %+v", contentType, r)
		}
		if a := got.one(t); a.URI != "/orders/7" || a.Body != `{"id":7}` || contentType != "" && a.Header.Get("Content-Type") != contentType {
			t.Errorf("%q: %s with %q as %s", contentType, a.URI, a.Body, a.Header.Get("Content-Type"))
		}
	}
}

func TestFaultsOfHolesAndFormats(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		url  string
		edit func(*service.Config)
		says string
	}{
		"batch with a hole":          {"http://h/{id}", func(c *service.Config) { c.Format = service.FormatBatch }, "ROLLCALL_SVC_BILLING_FORMAT"},
		"batch with a hole on NATS":  {"nats://svc.{type}", func(c *service.Config) { c.Format = service.FormatBatch }, "ROLLCALL_SVC_BILLING_FORMAT"},
		"batch with a header's hole": {"http://h/", func(c *service.Config) { c.Format, c.Headers = service.FormatBatch, jobs.NewSecret("X-A:{id}") }, "_HEADERS"},
		"a hole in the host":         {"http://{id}/", nil, "scheme, host or port"},
		"a hole in the port":         {"http://h:{id}/", nil, "the hole {id} stands in scheme, host or port"},
		"a hole in the scheme":       {"{id}://h/", nil, "the hole {id} stands in scheme, host or port"},
		"a hole in the user":         {"http://{id}@h/", nil, "the hole {id} stands in scheme, host or port"},
		"a hole in the fragment":     {"http://h/#{id}", nil, "ROLLCALL_SERVICES"},
		"a hole for a URL":           {"{data:/url}", nil, `"{data:/url}" is not a URL`},
		"no such port":               {"http://h:99999/{id}", nil, "65535"},
		"port zero":                  {"https://h:0/", nil, "65535"},
		"an unknown hole":            {"http://h/{name}", nil, "{subject:2}"},
		"a hole without an end":      {"http://h/{id", nil, "has no end"},
		"token zero":                 {"http://h/{subject:0}", nil, "counted from 1"},
		"a pointer without a slash":  {"http://h/{data:id}", nil, "{data:/order/id}"},
		"PUT with events":            {"http://h/", func(c *service.Config) { c.Format, c.Method = service.FormatEvent, "PUT" }, "_METHOD"},
		"an unknown method":          {"http://h/", func(c *service.Config) { c.Method = "FETCH" }, "_METHOD"},
		"KEEP with batch":            {"http://h/", func(c *service.Config) { c.Format, c.Keep = service.FormatBatch, true }, "_KEEP"},
		"a reserved header":          {"http://h/", func(c *service.Config) { c.Headers = jobs.NewSecret("content-length:7") }, "Content-Length"},
		"an event's header":          {"http://h/", func(c *service.Config) { c.Headers = jobs.NewSecret("ce-id:7") }, "Ce-Id"},
		"no name":                    {"http://h/", func(c *service.Config) { c.Headers = jobs.NewSecret("secret-value") }, "entry 1"},
		"a header twice":             {"http://h/", func(c *service.Config) { c.Headers = jobs.NewSecret("X-A:1,x-a:2") }, "twice"},
		"a status in two lists": {"http://h/", func(c *service.Config) {
			_ = c.OK.UnmarshalText([]byte("200-299"))
			_ = c.Fail.UnmarshalText([]byte("204"))
		}, "204"},
		"two tokens": {"http://h/", func(c *service.Config) {
			c.Token, c.Headers = jobs.NewSecret("t"), jobs.NewSecret("Authorization:Basic eA==")
		}, "Authorization"},
		"a bad route":            {"http://h/", func(c *service.Config) { c.Subjects = []string{"jobs..x"} }, "_SUBJECTS"},
		"OAuth without a secret": {"https://h/", func(c *service.Config) { c.OAuthURL, c.OAuthID = "https://login/token", "id" }, "_OAUTH_SECRET"},
		"OAuth and a token": {"https://h/", func(c *service.Config) {
			c.OAuthURL, c.OAuthID, c.OAuthSecret, c.Token = "https://login/token", "id", jobs.NewSecret("s"), jobs.NewSecret("t")
		}, "keep one"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := formatted(service.FormatPlain)
			if test.edit != nil {
				test.edit(&cfg)
			}
			err := cfg.Validate("billing", test.url)
			if err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "secret-value") {
				t.Errorf("got %v, want it to say %s", err, test.says)
			}
		})
	}
}
