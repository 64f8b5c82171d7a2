package service_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

// TestACallSaysWhetherItsBodyIsStillRead: net/http returns from a call that is cut short although
// it may still be sending the body.
func TestACallSaysWhetherItsBodyIsStillRead(t *testing.T) {
	t.Parallel()
	t.Run("answered", func(t *testing.T) {
		t.Parallel()
		url := serve(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
		if r := newService(t, url, config(), service.Deps{}).Call(t.Context(), call(96)); r.Failure != nil || !r.BodyRead {
			t.Errorf("Failure = %v, BodyRead = %t; want none and true", r.Failure, r.BodyRead)
		}
	})
	t.Run("cut short", func(t *testing.T) {
		t.Parallel()
		done := make(chan struct{})
		url := serve(t, func(http.ResponseWriter, *http.Request) { <-done })
		t.Cleanup(func() { close(done) })
		cfg := config()
		cfg.Timeout, cfg.Tries = 50*time.Millisecond, 1
		// More than the kernel's buffers take.
		c := &jobs.Call{BatchID: "b", Pool: "p", Service: "s", Key: "k", Body: make([]byte, 64<<20)}
		if r := newService(t, url, cfg, service.Deps{}).Call(t.Context(), c); r.Failure == nil || r.BodyRead {
			t.Errorf("Failure = %v, BodyRead = %t; want one and false", r.Failure, r.BodyRead)
		}
	})
}
