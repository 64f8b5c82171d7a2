package service_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rollcall/internal/faulttest"
	"rollcall/internal/service"
)

func TestReachConnectsWithoutACall(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	url := serve(t, func(http.ResponseWriter, *http.Request) { calls.Add(1) })
	if err := (service.Ref{Name: "billing", URL: url}).Reach(t.Context(), config()); err != nil {
		t.Errorf("a service that listens: %v", err)
	}
	if calls.Load() != 0 {
		t.Errorf("the service was called %d times", calls.Load())
	}
}

func TestReachTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	closed := fmt.Sprintf("http://127.0.0.1:%d", faulttest.FreePort(t))
	ca := newAuthority(t)
	cert, key := issue(t, ca, unchanged)
	secure := serveTLS(t, cert, key, asIs, fine)
	for url, says := range map[string]string{
		closed: "refused",
		secure: "unknown authority",
		strings.Replace(serve(t, fine), "http:", "https:", 1): "speaks no TLS there: is its URL http://?",
		"http://169.254.169.254/latest":                       "never called",
		"ftp://x":                                             "not a URL",
	} {
		if err := (service.Ref{Name: "billing", URL: url}).Reach(t.Context(), config()); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want an error that says %q", url, err, says)
		}
	}
	cfg := config()
	cfg.CA = ca.file
	if err := (service.Ref{Name: "billing", URL: secure}).Reach(t.Context(), cfg); err != nil {
		t.Errorf("with the authority that signed the certificate: %v", err)
	}
}

func TestReachIsBoundedByTheTimeout(t *testing.T) {
	t.Parallel()
	silent := raw(t, func(c *net.TCPConn) {})
	cfg := config()
	cfg.Timeout = 50 * time.Millisecond
	ref := service.Ref{Name: "billing", URL: strings.Replace(silent.url, "http:", "https:", 1)}
	if err := ref.Reach(t.Context(), cfg); err == nil {
		t.Error("a peer that never shakes hands was reached")
	}
}

func TestReachDoesNotTryNATS(t *testing.T) {
	t.Parallel()
	err := service.Ref{Name: "index", URL: "nats://svc.index"}.Reach(t.Context(), config())
	if !errors.Is(err, service.ErrNotTried) {
		t.Errorf("a service on NATS: %v, want ErrNotTried", err)
	}
}
