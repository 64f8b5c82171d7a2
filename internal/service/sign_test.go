package service_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

const (
	secretA = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	secretB = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
)

func TestCallsAreSignedWithEverySecret(t *testing.T) {
	t.Parallel()
	c := call(2)
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		id, stamp := r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp")
		signatures := strings.Fields(r.Header.Get("webhook-signature"))
		if id != c.Key || len(signatures) != 2 {
			t.Errorf("webhook-id %q, %d signatures", id, len(signatures))
			return
		}
		if at, err := strconv.ParseInt(stamp, 10, 64); err != nil || time.Since(time.Unix(at, 0)).Abs() > time.Minute {
			t.Errorf("webhook-timestamp %q, %v", stamp, err)
		}
		for i, secret := range []string{secretA, secretB} {
			key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
			mac := hmac.New(sha256.New, key)
			fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
			if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); signatures[i] != want {
				t.Errorf("signature %d: got %s, want %s", i, signatures[i], want)
			}
		}
	})
	cfg := config()
	cfg.Secret = jobs.NewSecret(secretA + ", " + secretB)
	if r := newService(t, url, cfg, service.Deps{}).Call(t.Context(), c); r.Failure != nil {
		t.Fatal(r.Failure)
	}
}

func TestWhatEveryHTTPCallCarries(t *testing.T) {
	t.Parallel()
	c := call(2)
	c.Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.URL.RequestURI() != "/jobs?tenant=1" || string(body) != string(c.Body) || r.ContentLength != int64(len(c.Body)) {
			t.Errorf("got %s %s with %d bytes", r.Method, r.URL, len(body))
		}
		for name, want := range map[string]string{
			"Content-Type": "application/cloudevents-batch+json", "User-Agent": "rollcall/1.2.3", "Accept": "application/json",
			"Idempotency-Key": `"` + c.Key + `"`, "Rollcall-Batch": c.BatchID, "Rollcall-Pool": c.Pool,
			"Traceparent": c.Traceparent, "Authorization": "Bearer tok", "Webhook-Signature": "", "Cookie": "",
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
	})
	cfg := config()
	cfg.Token = jobs.NewSecret("tok")
	if r := newService(t, url+"/jobs?tenant=1", cfg, service.Deps{Version: "1.2.3"}).Call(t.Context(), c); r.Failure != nil {
		t.Fatal(r.Failure)
	}
}
