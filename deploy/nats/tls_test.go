package nats_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// TestTLSIncludeEncrypts fills tls.conf in as it says and logs the worker in by its settings.
func TestTLSIncludeEncrypts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		verify bool
	}{{"server certificate", false}, {"client certificates too", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			certs := t.TempDir()
			issueAll(t, certs)
			s := start(t, encrypted(t, certs, c.verify))
			path := func(name string) string { return filepath.Join(certs, name) }

			worker := bus.Config{
				URL: s.ClientURL(), User: "worker", Password: jobs.NewSecret("worker-secret"),
				CA: path("ca.pem"), Cert: path("server.pem"), Key: path("server-key.pem"),
			}
			if _, err := connectWorker(t, worker).TLSConnectionState(); err != nil {
				t.Errorf("the worker's connection: %v", err)
			}
			ca, own := nats.RootCAs(worker.CA), nats.ClientCert(worker.Cert, worker.Key)
			strangers := map[string][]nats.Option{
				"a client that does not know the authority": {own},
				"a client of TLS 1.1":                       {ca, own, maxVersion(tls.VersionTLS11)},
			}
			if c.verify {
				strangers["a client without a certificate"] = []nats.Option{ca}
			}
			for name, options := range strangers {
				nc, err := nats.Connect(s.ClientURL(), append(options, nats.UserInfo("worker", "worker-secret"))...)
				if err == nil {
					nc.Close()
					t.Errorf("%s was let in", name)
				}
			}
		})
	}
}

func maxVersion(version uint16) nats.Option {
	return func(o *nats.Options) error {
		o.TLSConfig.MinVersion, o.TLSConfig.MaxVersion = version, version
		return nil
	}
}

func connectWorker(t *testing.T, cfg bus.Config) *nats.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	conn, err := bus.Connect(ctx, cfg, t.Name(), zerolog.Nop())
	if err != nil {
		t.Fatalf("the worker connects: %v", err)
	}
	t.Cleanup(func() {
		closing, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		if err := conn.Close(closing); err != nil {
			t.Error(err)
		}
	})
	return conn.NATS()
}

// encrypted copies the configuration with tls.conf uncommented, its paths in certs, and
// returns the path of the copy.
func encrypted(t *testing.T, certs string, verify bool) string {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile("tls.conf")
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(text), "# tls {")
	if !found {
		t.Fatal("tls.conf has no block to uncomment")
	}
	block = regexp.MustCompile(`(?m)^# ?`).ReplaceAllString("# tls {"+block, "")
	if verify {
		block = regexp.MustCompile(`# (ca_file|verify)`).ReplaceAllString(block, "$1")
	}
	write(t, filepath.Join(dir, "tls.conf"), strings.ReplaceAll(block, "/etc/nats/certs", certs))
	conf, err := os.ReadFile("nats-server.conf")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "nats-server.conf")
	write(t, path, string(conf))
	return path
}

// issueAll writes the certificates that tls.conf names: an authority, and one of it for
// 127.0.0.1, which stands for server and client alike.
func issueAll(t *testing.T, dir string) {
	t.Helper()
	template := func(cn string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
	}
	authority, leaf := template("authority"), template("leaf")
	authority.IsCA, authority.BasicConstraintsValid, authority.KeyUsage = true, true, x509.KeyUsageCertSign
	leaf.IPAddresses, leaf.KeyUsage = []net.IP{net.IPv4(127, 0, 0, 1)}, x509.KeyUsageDigitalSignature
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	authorityKey, leafKey := newKey(t), newKey(t)
	for _, c := range []struct {
		name     string
		template *x509.Certificate
		key      *ecdsa.PrivateKey
	}{{"ca.pem", authority, authorityKey}, {"server.pem", leaf, leafKey}} {
		der, err := x509.CreateCertificate(rand.Reader, c.template, authority, &c.key.PublicKey, authorityKey)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, c.name), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	}
	der, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "server-key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
