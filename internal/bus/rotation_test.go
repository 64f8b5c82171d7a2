package bus_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// TestASecretThatIsReplacedIsReadAtTheNextConnect rotates NATS_PASSWORD_FILE and NATS_TOKEN_FILE
// together with the server.
func TestASecretThatIsReplacedIsReadAtTheNextConnect(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		demand func(o *server.Options, secret string)
		config func(c *bus.Config, secret jobs.Secret)
	}{
		"password": {func(o *server.Options, s string) { o.Username, o.Password = "worker", s }, func(c *bus.Config, s jobs.Secret) { c.User, c.Password = "worker", s }},
		"token":    {func(o *server.Options, s string) { o.Authorization = s }, func(c *bus.Config, s jobs.Secret) { c.Token = s }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(path, []byte("first\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			secret, err := jobs.ReadSecret(path)
			if err != nil {
				t.Fatal(err)
			}
			s := startServer(t, overTCP, func(o *server.Options) { test.demand(o, "first") })
			port := s.Addr().(*net.TCPAddr).Port
			cfg := bus.Config{URL: s.ClientURL()}
			test.config(&cfg, secret)
			conn, err := bus.Connect(t.Context(), cfg, "test", nopLog())
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := conn.Close(context.Background()); err != nil {
					t.Error(err)
				}
			}()
			if err := os.WriteFile(path, []byte("second\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			s.Shutdown()
			s.WaitForShutdown()
			startServer(t, overTCP, func(o *server.Options) { o.Port = port; test.demand(o, "second") })
			eventually(t, "the connection is made with the new secret", func() bool { return conn.Healthy() == nil && conn.Reconnects() == 1 })
		})
	}
}
