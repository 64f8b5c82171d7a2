package otlp_test

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"rollcall/internal/telemetry/otlp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector answers with answer and keeps what came.
type collector struct {
	*httptest.Server
	answer http.HandlerFunc

	mu    sync.Mutex
	calls []call
}

// call is a request that arrived, with the name of its span.
type call struct {
	at     time.Time
	url    string
	header http.Header
	span   string
}

// newCollector answers every request as answer does.
func newCollector(t *testing.T, answer http.HandlerFunc) *collector {
	t.Helper()
	c := &collector{answer: answer}
	c.Server = httptest.NewUnstartedServer(c)
	c.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(func() { c.Close() })
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body io.Reader = r.Body
	var err error
	if r.Header.Get("Content-Encoding") == "gzip" {
		body, err = gzip.NewReader(r.Body)
	}
	var text []byte
	if err == nil {
		text, err = io.ReadAll(body)
	}
	var sent tracepb.TracesData
	if err == nil {
		err = proto.Unmarshal(text, &sent)
	}
	if err != nil {
		http.Error(w, "unreadable: "+err.Error(), http.StatusBadRequest)
		return
	}
	arrived := call{at: time.Now(), url: r.URL.String(), header: r.Header}
	for _, resource := range sent.GetResourceSpans() {
		arrived.span = resource.GetScopeSpans()[0].GetSpans()[0].GetName()
	}
	c.mu.Lock()
	c.calls = append(c.calls, arrived)
	c.mu.Unlock()
	c.answer(w, r)
}

// received returns what arrived.
func (c *collector) received() []call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}

func taken(http.ResponseWriter, *http.Request) {}

// status answers with a status and a text.
func status(code int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, text, code) }
}

// newClient returns one whose environment is env, entries NAME=value.
func newClient(t *testing.T, env ...string) (otlptrace.Client, error) {
	t.Helper()
	c, err := otlp.NewClient(func(name string) string {
		for _, entry := range env {
			if value, ok := strings.CutPrefix(entry, name+"="); ok {
				return value
			}
		}
		return ""
	})
	if err == nil {
		t.Cleanup(func() { c.Stop(context.Background()) })
	}
	return c, err
}

// upload sends one span to c with the settings env.
func upload(t *testing.T, c *collector, env ...string) error {
	t.Helper()
	if c.URL == "" {
		c.Start()
	}
	client, err := newClient(t, append(env, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.URL)...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return client.UploadTraces(ctx, oneSpan())
}

func oneSpan() []*tracepb.ResourceSpans {
	return []*tracepb.ResourceSpans{{ScopeSpans: []*tracepb.ScopeSpans{{Spans: []*tracepb.Span{{Name: "process jobs"}}}}}}
}

func TestWhatArrivesIsWhatTheSettingsSay(t *testing.T) {
	t.Parallel()
	for name, env := range map[string][]string{
		"plain": nil,
		"gzip":  {"OTEL_EXPORTER_OTLP_COMPRESSION=gzip"},
		"traces before all": {
			"OTEL_EXPORTER_OTLP_COMPRESSION=gzip", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION=none",
			"OTEL_EXPORTER_OTLP_HEADERS=x-key=all", "OTEL_EXPORTER_OTLP_TRACES_HEADERS= x-key = of%20traces ,x-pad=YWI=,",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCollector(t, taken)
			if err := upload(t, c, env...); err != nil {
				t.Fatal(err)
			}
			calls := c.received()
			if len(calls) != 1 || calls[0].span != "process jobs" || calls[0].url != "/v1/traces" {
				t.Fatalf("received %+v", calls)
			}
			want := map[string]string{"Content-Type": "application/x-protobuf", "Content-Encoding": "", "X-Key": ""}
			switch name {
			case "gzip":
				want["Content-Encoding"] = "gzip"
			case "traces before all":
				want["X-Key"], want["X-Pad"] = "of traces", "YWI="
			}
			for header, value := range want {
				if got := calls[0].header.Get(header); got != value {
					t.Errorf("%s is %q, want %q", header, got, value)
				}
			}
			if got := calls[0].header.Get("User-Agent"); !strings.Contains(got, "OTel-OTLP-Exporter-Go/") {
				t.Errorf("the exporter calls itself %q", got)
			}
		})
	}
}

// An endpoint for all signals is where paths begin, one for traces is taken as it is.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=%s":                    "/v1/traces",
		"OTEL_EXPORTER_OTLP_ENDPOINT=%s/":                   "/v1/traces",
		"OTEL_EXPORTER_OTLP_ENDPOINT=%s/otel/?tenant=a":     "/otel/v1/traces?tenant=a",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=%s":             "/",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=%s/in?tenant=a": "/in?tenant=a",
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			c := newCollector(t, taken)
			c.Start()
			if err := upload(t, c, strings.Replace(setting, "%s", c.URL, 1)); err != nil {
				t.Fatal(err)
			}
			if got := c.received(); len(got) != 1 || got[0].url != want {
				t.Errorf("received %+v, want one at %s", got, want)
			}
		})
	}
}

func TestACollectorThatIsBusyIsAskedAgain(t *testing.T) {
	t.Parallel()
	for _, code := range []int{429, 502, 503, 504} {
		t.Run(http.StatusText(code), func(t *testing.T) {
			t.Parallel()
			var c *collector
			c = newCollector(t, func(w http.ResponseWriter, _ *http.Request) {
				if len(c.received()) == 1 {
					w.Header().Set("Retry-After", "1")
					w.WriteHeader(code)
				}
			})
			if err := upload(t, c); err != nil {
				t.Fatal(err)
			}
			calls := c.received()
			if len(calls) != 2 || calls[1].span != "process jobs" {
				t.Fatalf("received %+v, want two", calls)
			}
			if pause := calls[1].at.Sub(calls[0].at); pause < time.Second {
				t.Errorf("asked again after %s, the collector said one second", pause)
			}
		})
	}
}

func TestACollectorThatRefusesIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	c := newCollector(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `no tenant "s3cr3t"`+strings.Repeat("!", 1000), http.StatusUnauthorized)
	})
	err := upload(t, c, "OTEL_EXPORTER_OTLP_HEADERS=authorization=s3cr3t")
	if err == nil || !strings.Contains(err.Error(), `401 Unauthorized: "no tenant \"***\"`) || len(err.Error()) > 400 {
		t.Errorf("got %v, want the status and what the collector said, without the secret, and cut", err)
	}
	if n := len(c.received()); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// What a collector sends back of our headers is not shown, however it writes it, and the rest stays readable.
func TestErrorsHideTheHeaders(t *testing.T) {
	t.Parallel()
	for headers, said := range map[string]string{
		"authorization=Bearer s3cr3t-token":     "bad token s3cr3t-token",
		"x-tenant=acme,api-key=acme-s3cr3t":     "acme-s3cr3t is no key",
		`x-quoted=s3c"r3t`:                      `{"header":"s3c\"r3t"}`,
		"x-scope=,x-short=e,api-key=a%20s3cr3t": "a s3cr3t expired",
	} {
		err := upload(t, newCollector(t, status(http.StatusForbidden, said)), "OTEL_EXPORTER_OTLP_HEADERS="+headers)
		if err == nil || strings.Contains(err.Error(), "s3c") {
			t.Errorf("%s: got %v", headers, err)
		}
		if strings.HasPrefix(headers, "x-scope") && !strings.Contains(err.Error(), `"*** expired"`) {
			t.Errorf("%s: got %v, want the rest of the text", headers, err)
		}
	}
}

// A redirect could lead our headers elsewhere, and makes a GET of a POST.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	elsewhere := newCollector(t, taken)
	elsewhere.Start()
	for _, code := range []int{301, 302, 303, 307, 308} {
		c := newCollector(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, code) })
		if err := upload(t, c); err == nil || !strings.Contains(err.Error(), strconv.Itoa(code)) {
			t.Errorf("%d: got %v", code, err)
		}
	}
	if got := elsewhere.received(); len(got) > 0 {
		t.Errorf("went elsewhere: %+v", got)
	}
}

// A secret that is mounted as a file ends in a line break.
func TestWhiteSpaceAroundASettingDoesNotCount(t *testing.T) {
	t.Parallel()
	c := newCollector(t, taken)
	c.Start()
	if err := upload(t, c, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT= ", "OTEL_EXPORTER_OTLP_ENDPOINT= "+c.URL+"\n", "OTEL_EXPORTER_OTLP_TIMEOUT= 10000 ", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf "); err != nil {
		t.Error(err)
	}
}

func TestAnErrorDoesNotShowTheQuery(t *testing.T) {
	t.Parallel()
	c := newCollector(t, taken)
	c.Start()
	c.Close()
	err := upload(t, c, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="+strings.Replace(c.URL, "http://", "http://user:s3cr3t@", 1)+"/?key=s3cr3t", "OTEL_EXPORTER_OTLP_TIMEOUT=1000")
	if err == nil || strings.Contains(err.Error(), "s3cr3t") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
}

// protobuf answers with a message.
func protobuf(code int, message []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-protobuf")
		w.WriteHeader(code)
		w.Write(message)
	}
}

func TestWhatACollectorSaysInProtobuf(t *testing.T) {
	t.Parallel()
	text := func(to []byte, number protowire.Number, value string) []byte {
		return protowire.AppendString(protowire.AppendTag(to, number, protowire.BytesType), value)
	}
	number := func(to []byte, field protowire.Number, value uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(to, field, protowire.VarintType), value)
	}
	partial := func(rejected uint64, why string) []byte {
		return text(nil, 1, string(text(number(nil, 1, rejected), 2, why)))
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"nothing to say":    {protobuf(200, nil), ""},
		"a warning":         {protobuf(200, partial(0, "use gzip")), ""},
		"a senseless count": {protobuf(200, partial(math.MaxUint64, "")), ""},
		"a part refused":    {protobuf(200, partial(3, "too old")), `the collector refused 3 spans: "too old"`},
		"no protobuf":       {status(200, string(partial(3, "too old"))), ""},
		"cut off":           {protobuf(200, partial(3, "too old")[:4]), ""},
		"why it was wrong":  {protobuf(400, text(number(nil, 1, 3), 2, "no trace id")), `the collector answered 400 Bad Request: "no trace id"`},
		"wrong, cut off":    {protobuf(400, text(nil, 2, "no trace id")[:5]), "the collector answered 400 Bad Request"},
		"text of a gateway": {status(403, " forbidden \n"), `the collector answered 403 Forbidden: "forbidden"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ""
			if err := upload(t, newCollector(t, c.answer)); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestAnUploadEnds(t *testing.T) {
	t.Parallel()
	t.Run("at its timeout", func(t *testing.T) {
		t.Parallel()
		c := newCollector(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		began := time.Now()
		if err := upload(t, c, "OTEL_EXPORTER_OTLP_TIMEOUT=50"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %s, want 50 ms", took)
		}
	})
	t.Run("between two attempts", func(t *testing.T) {
		t.Parallel()
		c := newCollector(t, status(http.StatusServiceUnavailable, "later"))
		if err := upload(t, c, "OTEL_EXPORTER_OTLP_TIMEOUT=1000"); err == nil || !strings.Contains(err.Error(), "503") {
			t.Errorf("got %v, want what the last attempt met", err)
		}
	})
	t.Run("within an attempt after one that was answered", func(t *testing.T) {
		t.Parallel()
		var attempts atomic.Int32
		c := newCollector(t, func(w http.ResponseWriter, r *http.Request) {
			if attempts.Add(1) == 1 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			<-r.Context().Done()
		})
		if err := upload(t, c, "OTEL_EXPORTER_OTLP_TIMEOUT=1000"); err == nil || !strings.Contains(err.Error(), "503") || attempts.Load() != 2 {
			t.Errorf("got %v after %d attempts, want what the first of two met", err, attempts.Load())
		}
	})
	t.Run("before a pause that it would not outlive", func(t *testing.T) {
		t.Parallel()
		c := newCollector(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		began := time.Now()
		if err := upload(t, c); err == nil || !strings.Contains(err.Error(), "503") || time.Since(began) > 5*time.Second {
			t.Errorf("got %v after %s", err, time.Since(began))
		}
	})
	t.Run("when the client is stopped", func(t *testing.T) {
		t.Parallel()
		var client otlptrace.Client
		c := newCollector(t, func(_ http.ResponseWriter, r *http.Request) {
			client.Stop(context.Background())
			<-r.Context().Done()
		})
		c.Start()
		var err error
		if client, err = newClient(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.URL); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := client.UploadTraces(t.Context(), oneSpan()); !errors.Is(err, context.Canceled) || time.Since(began) > 5*time.Second {
			t.Errorf("got %v after %s", err, time.Since(began))
		}
	})
	t.Run("and nobody listens", func(t *testing.T) {
		t.Parallel()
		c := newCollector(t, taken)
		c.Start()
		c.Close()
		var network *net.OpError
		if err := upload(t, c, "OTEL_EXPORTER_OTLP_TIMEOUT=1000"); !errors.As(err, &network) {
			t.Errorf("got %v", err)
		}
	})
}

// written returns the path of a new file with a block in PEM.
func written(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestACollectorBehindTLS(t *testing.T) {
	t.Parallel()
	c := newCollector(t, taken)
	c.StartTLS()
	began := time.Now()
	if err := upload(t, c); err == nil || !strings.Contains(err.Error(), "certificate") || time.Since(began) > 5*time.Second {
		t.Errorf("got %v after %s, want at once that the certificate is unknown", err, time.Since(began))
	}
	ca := "OTEL_EXPORTER_OTLP_CERTIFICATE=" + written(t, "ca.pem", "CERTIFICATE", c.Certificate().Raw)
	if err := upload(t, c, ca); err != nil {
		t.Error(err)
	}
	careful := newCollector(t, taken)
	careful.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	careful.StartTLS()
	if err := upload(t, careful, ca, "OTEL_EXPORTER_OTLP_TIMEOUT=1000"); err == nil {
		t.Error("a collector that wants a certificate took spans of a client without one")
	}
	key, err := x509.MarshalPKCS8PrivateKey(c.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := upload(t, careful, ca,
		"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE="+written(t, "cert.pem", "CERTIFICATE", c.Certificate().Raw),
		"OTEL_EXPORTER_OTLP_CLIENT_KEY="+written(t, "key.pem", "PRIVATE KEY", key)); err != nil {
		t.Error(err)
	}
}

func TestWrongSettingsNameTheirVariable(t *testing.T) {
	t.Parallel()
	empty := written(t, "empty.pem", "NOTHING", nil)
	for setting, want := range map[string]string{
		"OTEL_EXPORTER_OTLP_PROTOCOL=grpc":                          `OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" is not spoken, only http/protobuf is`,
		"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/json":              "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: ",
		"OTEL_EXPORTER_OTLP_ENDPOINT=collector:4318":                "OTEL_EXPORTER_OTLP_ENDPOINT: want a URL like http://",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://":                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: want a URL",
		"OTEL_EXPORTER_OTLP_HEADERS=s3cr3t":                         "OTEL_EXPORTER_OTLP_HEADERS: want name=value",
		"OTEL_EXPORTER_OTLP_HEADERS=a b=s3cr3t":                     "OTEL_EXPORTER_OTLP_HEADERS: want name=value",
		"OTEL_EXPORTER_OTLP_HEADERS=a=s3cr3t%zz":                    "OTEL_EXPORTER_OTLP_HEADERS: want name=value",
		"OTEL_EXPORTER_OTLP_HEADERS=a=s3cr3t%0Ab: c":                "OTEL_EXPORTER_OTLP_HEADERS: want name=value",
		"OTEL_EXPORTER_OTLP_COMPRESSION=zstd":                       `OTEL_EXPORTER_OTLP_COMPRESSION: "zstd" is unknown`,
		"OTEL_EXPORTER_OTLP_TIMEOUT=10s":                            `OTEL_EXPORTER_OTLP_TIMEOUT: "10s" is no number of milliseconds`,
		"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT=0":                       "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: ",
		"OTEL_EXPORTER_OTLP_CERTIFICATE=/nowhere/ca.pem":            "OTEL_EXPORTER_OTLP_CERTIFICATE: open /nowhere/ca.pem",
		"OTEL_EXPORTER_OTLP_CERTIFICATE=" + empty:                   "holds no certificate in PEM",
		"OTEL_EXPORTER_OTLP_CLIENT_KEY=" + empty:                    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY go together",
		"OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE=/nowhere.pem": "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE and ",
	} {
		_, err := newClient(t, setting)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: got %v, want %s", setting, err, want)
		}
	}
	_, err := newClient(t, "OTEL_EXPORTER_OTLP_TIMEOUT=x", "OTEL_EXPORTER_OTLP_COMPRESSION=x")
	if err == nil || !strings.Contains(err.Error(), "TIMEOUT") || !strings.Contains(err.Error(), "COMPRESSION") {
		t.Errorf("two faults: got %v, want both", err)
	}
}
