package service_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

// authority issues certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{file: filepath.Join(t.TempDir(), "ca.pem")}
	a.cert, a.key = issue(t, nil, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })
	writePEM(t, a.file, "CERTIFICATE", a.cert.Raw)
	return a
}

// issue makes a certificate for 127.0.0.1, changed by edit; signed by itself without a.
func issue(t *testing.T, a *authority, edit func(*x509.Certificate)) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	edit(template)
	parent, signer := template, key
	if a != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// serveTLS starts a server with this certificate; edit may change its TLS settings.
func serveTLS(t *testing.T, cert *x509.Certificate, key *ecdsa.PrivateKey, edit func(*httptest.Server), h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}
	edit(srv)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.URL
}

func asIs(*httptest.Server)                   {}
func unchanged(*x509.Certificate)             {}
func fine(http.ResponseWriter, *http.Request) {}

// TestTLSFaults: not repeated, the breaker opens at once, no attempt is
// burnt, and the text names the trouble.
func TestTLSFaults(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	for name, test := range map[string]struct {
		trust *authority
		cert  func(*x509.Certificate)
		tls   func(*httptest.Server)
		says  string
	}{
		"expired":    {ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, asIs, "expired"},
		"wrong host": {ca, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"elsewhere"} }, asIs, "127.0.0.1"},
		"unknown CA": {other, unchanged, asIs, "unknown authority"},
		"TLS 1.1 only": {ca, unchanged, func(s *httptest.Server) {
			s.TLS.MinVersion, s.TLS.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		}, "version"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cert, key := issue(t, ca, test.cert)
			cfg := config()
			cfg.CA = test.trust.file
			s := newService(t, serveTLS(t, cert, key, test.tls, fine), cfg, service.Deps{})
			r := s.Call(t.Context(), call(1))
			want{reason: jobs.ReasonTLS, wrong: true}.check(t, r)
			if !strings.Contains(r.Failure.Error(), test.says) {
				t.Fatalf("the error does not say %q: %v", test.says, r.Failure)
			}
			r = s.Call(t.Context(), call(1))
			want{reason: jobs.ReasonBreakerOpen, wrong: true}.check(t, r)
			if st := s.State(); st.Breaker != "open" || !st.Misconfigured || !strings.Contains(st.LastError, test.says) {
				t.Errorf("state %+v, want an open breaker and why", st)
			}
		})
	}
}

func TestPlainHTTPBehindAnHTTPSURL(t *testing.T) {
	t.Parallel()
	url := strings.Replace(serve(t, fine), "http://", "https://", 1)
	want{reason: jobs.ReasonTLS, wrong: true}.check(t, newService(t, url, config(), service.Deps{}).Call(t.Context(), call(1)))
}

func TestHTTP2WhereTLSOffersIt(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert, key := issue(t, ca, unchanged)
	for proto, http2 := range map[string]bool{"HTTP/2.0": true, "HTTP/1.1": false} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			url := serveTLS(t, cert, key, func(s *httptest.Server) { s.EnableHTTP2 = http2 }, func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if r.Proto != proto || err != nil || len(body) != int(r.ContentLength) {
					t.Errorf("got %s with %d of %d bytes, %v; want %s", r.Proto, len(body), r.ContentLength, err, proto)
				}
			})
			cfg := config()
			cfg.CA = ca.file
			s := newService(t, url, cfg, service.Deps{})
			for range 3 {
				if r := s.Call(t.Context(), call(3)); r.Failure != nil {
					t.Fatal(r.Failure)
				}
			}
		})
	}
}

// TestARequestThatWaitsForAStreamIsNotSent has a service with HTTP/2 that lets no stream begin.
func TestARequestThatWaitsForAStreamIsNotSent(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert, key := issue(t, ca, unchanged)
	got := make(chan struct{})
	var once sync.Once
	url := serveTLS(t, cert, key, func(s *httptest.Server) {
		s.TLS.NextProtos = []string{"h2"}
		s.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){"h2": func(_ *http.Server, c *tls.Conn, _ http.Handler) {
			<-got
			// SETTINGS_MAX_CONCURRENT_STREAMS is 0.
			_, _ = c.Write([]byte{0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0})
			_, _ = io.Copy(io.Discard, c)
		}}
	}, fine)
	cfg := config()
	cfg.CA, cfg.Tries, cfg.Timeout = ca.file, 1, 3*time.Second
	s := newService(t, url, cfg, service.Deps{})
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		once.Do(func() { close(got) })
		time.Sleep(time.Second) // until the settings have come, also on a busy machine
	}})
	if r := s.Call(ctx, call(1)); r.Failure == nil || r.Failure.Reason != jobs.ReasonTimeout || !r.Failure.Free || r.Tries != 0 {
		t.Errorf("%+v, want a time-out of a request that was not sent", r)
	}
}

func TestClientCertificate(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert, key := issue(t, ca, unchanged)
	client, clientKey := issue(t, ca, unchanged)
	dir := t.TempDir()
	writePEM(t, filepath.Join(dir, "cert.pem"), "CERTIFICATE", client.Raw)
	der, err := x509.MarshalECPrivateKey(clientKey)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, filepath.Join(dir, "key.pem"), "EC PRIVATE KEY", der)
	// With TLS 1.2 the refusal is part of the handshake. With 1.3 it comes when the handshake is
	// over for the client, in place of a reply.
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		for proto, http2 := range map[string]bool{"HTTP/2": true, "HTTP/1.1": false} {
			t.Run(name+" "+proto, func(t *testing.T) {
				t.Parallel()
				url := serveTLS(t, cert, key, func(s *httptest.Server) {
					s.TLS.ClientAuth, s.TLS.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
					s.TLS.ClientCAs.AddCert(ca.cert)
					s.TLS.MinVersion, s.TLS.MaxVersion = version, version
					s.EnableHTTP2 = http2
				}, fine)
				cfg := config()
				cfg.CA = ca.file
				r := newService(t, url, cfg, service.Deps{}).Call(t.Context(), call(1))
				// net/http may lose the alert of an HTTP/2 connection that ends before it began.
				if lossy := http2 && version == tls.VersionTLS13; !lossy {
					want{reason: jobs.ReasonTLS, wrong: true}.check(t, r)
				} else if r.Failure == nil || r.Failure.Final {
					t.Errorf("got %+v, want a failure that is not final", r)
				}
				if r.Failure.Reason == jobs.ReasonTLS && !strings.Contains(r.Failure.Error(), "_CERT") {
					t.Errorf("the error names no variable: %v", r.Failure)
				}
				cfg.Cert, cfg.Key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
				if r := newService(t, url, cfg, service.Deps{}).Call(t.Context(), call(1)); r.Failure != nil {
					t.Error(r.Failure)
				}
			})
		}
	}
}

// TestAnAuthorityThatIsReplacedIsReadAgain has a service whose certificate is of an authority that
// its file names only later.
func TestAnAuthorityThatIsReplacedIsReadAgain(t *testing.T) {
	t.Parallel()
	old, next := newAuthority(t), newAuthority(t)
	cert, key := issue(t, next, unchanged)
	file := filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, file, "CERTIFICATE", old.cert.Raw)
	cfg := config()
	cfg.CA = file
	s := newService(t, serveTLS(t, cert, key, asIs, fine), cfg, service.Deps{})
	want{reason: jobs.ReasonTLS, wrong: true}.check(t, s.Call(t.Context(), call(1)))
	writePEM(t, file+".new", "CERTIFICATE", next.cert.Raw)
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); s.Call(t.Context(), call(1)).Failure != nil; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", s.State())
		}
	}
}
