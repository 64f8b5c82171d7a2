package interop_test

import (
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/mccutchen/go-httpbin/v2/httpbin"

	"rollcall/internal/jobs"
)

// quoted is how a text looks in JSON.
func quoted(text []byte) string {
	b, err := json.Marshal(string(text))
	if err != nil {
		return ""
	}
	return string(b)
}

func bin(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(httpbin.New().Handler())
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestHTTPBinAnswersEveryJob(t *testing.T) {
	t.Parallel()
	c := batch()
	r := newService(t, bin(t)+results(t, c), config()).Call(t.Context(), c)
	if r.Failure != nil || r.Tries != 1 {
		t.Fatalf("got %+v", r)
	}
	for i, reply := range r.Replies {
		if reply.Status != jobs.StatusOK || string(reply.Data) != `"`+c.Jobs[i].UID+`"` {
			t.Errorf("job %d: %+v", i, reply)
		}
	}
}

func TestHTTPBinAsFaultyServices(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]struct {
		reason string
		tries  int
		final  bool
	}{
		"/status/500":              {jobs.ReasonHTTP5xx, 2, false},
		"/status/503":              {jobs.ReasonHTTP5xx, 2, false},
		"/status/429":              {jobs.ReasonThrottled, 1, false},
		"/status/408":              {jobs.ReasonHTTP4xx, 2, false},
		"/status/404":              {jobs.ReasonHTTP4xx, 1, false}, // the URL is wrong, and no job
		"/status/418":              {jobs.ReasonHTTP4xx, 1, true},
		"/bearer":                  {jobs.ReasonHTTP4xx, 1, false}, // 401 without a token
		"/unstable?failure_rate=1": {jobs.ReasonHTTP5xx, 2, false},
		"/redirect-to?url=/status/200&status_code=307": {jobs.ReasonRedirect, 1, false},
		"/absolute-redirect/3":                         {jobs.ReasonRedirect, 1, false},
		"/delay/2":                                     {jobs.ReasonTimeout, 2, false},
		"/drip?duration=3&delay=0&numbytes=9":          {jobs.ReasonTimeout, 2, false},
		"/html":                                        {jobs.ReasonBadResponse, 2, false},
		"/xml":                                         {jobs.ReasonBadResponse, 2, false},
		"/sse?count=2&duration=10ms":                   {jobs.ReasonBadResponse, 2, false},
		"/bytes/5000":                                  {jobs.ReasonBadResponse, 2, false},
		"/bytes/70000":                                 {jobs.ReasonTooLarge, 2, false},
		"/stream-bytes/70000":                          {jobs.ReasonTooLarge, 2, false},
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			cfg := config()
			if want.reason == jobs.ReasonTimeout {
				cfg.Timeout = 300 * time.Millisecond
			}
			r := newService(t, bin(t)+path, cfg).Call(t.Context(), batch())
			if r.Failure == nil || r.Failure.Reason != want.reason || r.Failure.Final != want.final || r.Tries != want.tries {
				t.Errorf("got %+v, want %+v", r, want)
			}
		})
	}
}
