package service_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

// issuer is a token endpoint that counts the tokens that it gave.
type issuer struct {
	given  atomic.Int32
	life   int
	status int
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, secret, _ := r.BasicAuth()
	if i.status != 0 {
		w.WriteHeader(i.status)
		_, _ = io.WriteString(w, `{"error":"invalid_client","error_description":"who is `+secret+`?"}`)
		return
	}
	if err := r.ParseForm(); err != nil || r.Form.Get("grant_type") != "client_credentials" || r.Form.Get("scope") != "jobs orders" || id != "rollcall" || secret != "s3cret" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"access_token":"token-%d","token_type":"bearer","expires_in":%d}`, i.given.Add(1), i.life)
}

// granted returns settings with the grant.
func granted(t *testing.T, i *issuer, edit ...func(*service.Config)) service.Config {
	return formatted(service.FormatPlain, append([]func(*service.Config){func(c *service.Config) {
		c.OAuthURL, c.OAuthID, c.OAuthSecret, c.OAuthScopes = serve(t, i.ServeHTTP), "rollcall", jobs.NewSecret("s3cret"), []string{"jobs", "orders"}
	}}, edit...)...)
}

func TestAllCallsShareOneToken(t *testing.T) {
	t.Parallel()
	i := &issuer{life: 3600}
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token-1" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	s := newService(t, url, granted(t, i), service.Deps{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if r := s.Call(t.Context(), callOf(make([]jobs.Delivery, 10)...)); r.Failure != nil || r.Replies[0].Status != ok {
				t.Errorf("%+v", r)
			}
		})
	}
	wg.Wait()
	if n := i.given.Load(); n != 1 {
		t.Errorf("%d tokens for one service", n)
	}
}

// TestATokenThatIsRefusedIsReplacedOnce has a service that forgets a token: the job notices
// nothing of it.
func TestATokenThatIsRefusedIsReplacedOnce(t *testing.T) {
	t.Parallel()
	i := &issuer{life: 3600}
	var requests atomic.Int32
	valid := "Bearer token-2"
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.Header.Get("Authorization") != valid {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	s := newService(t, url, granted(t, i), service.Deps{})
	if r := s.Call(t.Context(), callOf(jobs.Delivery{})); r.Failure != nil || r.Replies[0].Status != ok || r.Tries != 1 {
		t.Errorf("%+v, want a success in one try", r)
	}
	if i.given.Load() != 2 || requests.Load() != 2 {
		t.Errorf("%d tokens, %d requests", i.given.Load(), requests.Load())
	}
	valid = "none"
	r := s.Call(t.Context(), callOf(jobs.Delivery{}))
	if r.Failure != nil || r.Replies[0].Status != retry || !r.Replies[0].Free || requests.Load() != 4 {
		t.Errorf("%+v after %d requests, want one more token and then nobody's fault", r, requests.Load())
	}
	if st := s.State(); !st.Misconfigured || st.Breaker != jobs.BreakerOpen {
		t.Errorf("%+v", st)
	}
}

func TestATokenIsReplacedBeforeItEnds(t *testing.T) {
	t.Parallel()
	i := &issuer{life: 1}
	s := newService(t, serve(t, fine), granted(t, i), service.Deps{})
	for deadline := time.Now().Add(10 * time.Second); i.given.Load() < 2; {
		if r := s.Call(t.Context(), callOf(jobs.Delivery{})); r.Failure != nil || r.Replies[0].Status != ok {
			t.Fatalf("%+v", r)
		}
		if time.Now().After(deadline) {
			t.Fatal("the token was never replaced")
		}
	}
}

func TestNoTokenIsNobodysJob(t *testing.T) {
	t.Parallel()
	for status, wrong := range map[int]bool{http.StatusUnauthorized: true, http.StatusServiceUnavailable: false} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			var called atomic.Int32
			url := serve(t, func(http.ResponseWriter, *http.Request) { called.Add(1) })
			s := newService(t, url, granted(t, &issuer{status: status}, func(c *service.Config) { c.Tries = 1 }), service.Deps{})
			r := s.Call(t.Context(), callOf(jobs.Delivery{}))
			if r.Failure == nil || r.Tries != 0 || !r.Failure.Free || r.Failure.Misconfigured != wrong || r.Failure.Reason != jobs.ReasonToken || called.Load() != 0 {
				t.Errorf("%+v after %d requests", r, called.Load())
			}
			if text := r.Failure.Error(); strings.Contains(text, "s3cret") || !strings.Contains(text, "invalid_client") {
				t.Error(text)
			}
		})
	}
}

// TestATokenThatCannotBeUsedIsNone has the log speak of the token, and not of the 401 of a service
// that got none.
func TestATokenThatCannotBeUsedIsNone(t *testing.T) {
	t.Parallel()
	for answer, says := range map[string]string{
		`{"access_token":"x","token_type":"bearer","expires_in":-5}`:           "expires_in",
		`{"access_token":"x","token_type":"Be\narer","expires_in":3600}`:       "token_type",
		`{"access_token":"x y","token_type":"bearer","expires_in":3600}`:       "the access token cannot",
		`{"access_token":"x\r\nX: y","token_type":"bearer","expires_in":3600}`: "the access token cannot",
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			endpoint := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, answer)
			})
			var called atomic.Int32
			url := serve(t, func(http.ResponseWriter, *http.Request) { called.Add(1) })
			cfg := granted(t, &issuer{}, func(c *service.Config) { c.OAuthURL, c.Tries = endpoint, 1 })
			r := newService(t, url, cfg, service.Deps{}).Call(t.Context(), callOf(jobs.Delivery{}))
			if r.Failure == nil || r.Failure.Reason != jobs.ReasonToken || !r.Failure.Free || !strings.Contains(r.Failure.Error(), says) || called.Load() != 0 {
				t.Errorf("%+v after %d requests, want it to say %s", r, called.Load(), says)
			}
		})
	}
}

// TestAnEndpointIsAskedTheWayItWantsToBe has one that takes the credentials only in the form: that is
// found out once, and again when the endpoint has come to want something else.
func TestAnEndpointIsAskedTheWayItWantsToBe(t *testing.T) {
	t.Parallel()
	var given, refused atomic.Int32
	var header atomic.Bool
	endpoint := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if _, _, basic := r.BasicAuth(); basic != header.Load() {
			refused.Add(1)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":"token-%d","token_type":"bearer","expires_in":3600}`, given.Add(1))
	})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != fmt.Sprintf("Bearer token-%d", given.Load()) {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	s := newService(t, url, granted(t, &issuer{}, func(c *service.Config) { c.OAuthURL = endpoint }), service.Deps{})
	for range 3 {
		if r := s.Call(t.Context(), callOf(jobs.Delivery{})); r.Failure != nil || r.Replies[0].Status != ok {
			t.Fatalf("%+v", r)
		}
		given.Add(1) // what was given is no longer taken
	}
	if n := refused.Load(); n != 1 {
		t.Errorf("the endpoint refused %d requests, want the first one alone", n)
	}
	header.Store(true)
	for deadline := time.Now().Add(10 * time.Second); ; {
		if r := s.Call(t.Context(), callOf(jobs.Delivery{})); r.Failure == nil && r.Replies[0].Status == ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("credentials go on as they are refused")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestATokenEndpointThatSwitchesProtocolsHoldsNobody has one whose connection stays open and silent.
func TestATokenEndpointThatSwitchesProtocolsHoldsNobody(t *testing.T) {
	t.Parallel()
	endpoint := raw(t, then("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", hang)).url
	cfg := granted(t, &issuer{}, func(c *service.Config) { c.OAuthURL, c.Tries, c.Timeout = endpoint, 1, slow })
	r := newService(t, serve(t, fine), cfg, service.Deps{}).Call(t.Context(), callOf(jobs.Delivery{}))
	if r.Failure == nil || r.Failure.Reason != jobs.ReasonToken || !strings.Contains(r.Failure.Error(), "answered 101") {
		t.Errorf("%+v", r)
	}
}

// secretFile returns a secret that lives in a file, and a function that changes it.
func secretFile(t *testing.T, text string) (jobs.Secret, func(string)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	write := func(text string) {
		// As orchestrators do: another file takes the name.
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write(text)
	secret, err := jobs.ReadSecret(path)
	if err != nil {
		t.Fatal(err)
	}
	return secret, write
}

// TestFilesOfSecretsAreReadAgain rotates a token, a signing secret and a certificate while the
// service is called.
func TestFilesOfSecretsAreReadAgain(t *testing.T) {
	t.Parallel()
	token, rotate := secretFile(t, "first\n")
	secret, _ := secretFile(t, secretA)
	var last atomic.Pointer[http.Header]
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) { last.Store(&r.Header) })
	cfg := config()
	cfg.Token, cfg.Secret = token, secret
	s := newService(t, url, cfg, service.Deps{})
	seen := func(want string) bool {
		if r := s.Call(t.Context(), call(1)); r.Failure != nil {
			t.Fatal(r.Failure)
		}
		return last.Load().Get("Authorization") == want
	}
	if !seen("Bearer first") {
		t.Fatalf("got %v", *last.Load())
	}
	rotate("second, longer\n") // a comma and a blank: no token
	for begun := time.Now(); time.Since(begun) < 1500*time.Millisecond; {
		if !seen("Bearer first") {
			t.Fatalf("a file that cannot be used counted: %v", *last.Load())
		}
	}
	rotate("third-one\n")
	for deadline := time.Now().Add(10 * time.Second); !seen("Bearer third-one"); {
		if time.Now().After(deadline) {
			t.Fatalf("still %s", last.Load().Get("Authorization"))
		}
	}
}

// TestTheFileOfHeadersIsReadAgain: the key of a service that wants one in a header of its own is
// rotated like any other, over HTTP and NATS.
func TestTheFileOfHeadersIsReadAgain(t *testing.T) {
	t.Parallel()
	var last atomic.Value
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		last.Store(r.Header.Get("X-Api-Key") + " " + r.Header.Get("X-For"))
	})
	nc, svc := connect(t, 1<<20)
	if _, err := svc.Subscribe("svc.keyed", func(m *nats.Msg) {
		last.Store(m.Header.Get("X-Api-Key") + " " + m.Header.Get("X-For"))
		_ = m.Respond(nil)
	}); err != nil || svc.Flush() != nil {
		t.Fatal(err)
	}
	for _, target := range []string{url, "nats://svc.keyed"} {
		headers, rotate := secretFile(t, "X-Api-Key:first,X-For:{uid}\n")
		cfg := config()
		cfg.Format, cfg.Headers = service.FormatPlain, headers
		s := newService(t, target, cfg, service.Deps{Conn: nc})
		job := call(1)
		await := func(want string) {
			for deadline := time.Now().Add(10 * time.Second); ; {
				if r := s.Call(t.Context(), job); r.Failure != nil {
					t.Fatal(r.Failure)
				}
				if last.Load() == want {
					return
				}
				if time.Now().After(deadline) {
					t.Fatalf("%s got %q, want %q", target, last.Load(), want)
				}
			}
		}
		uid := job.Jobs[0].UID
		await("first " + uid)
		rotate("X-Api-Key:second,Host:evil,X-For:{uid}\n") // not allowed: all stays as it was
		for begun := time.Now(); time.Since(begun) < 1500*time.Millisecond; {
			await("first " + uid)
		}
		rotate("X-For:{subject:1},X-Api-Key:third\n")
		await("third jobs")
	}
}
