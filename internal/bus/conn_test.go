package bus_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"rollcall/internal/bus"
	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
)

// overTCP makes a test server listen on a free port of loopback.
func overTCP(o *server.Options) {
	o.DontListen, o.Host, o.Port = false, "127.0.0.1", server.RANDOM_PORT
}

func TestAnUnreachableServerIsToldWithoutSecrets(t *testing.T) {
	t.Parallel()
	addr := fmt.Sprintf("127.0.0.1:%d", faulttest.FreePort(t))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := bus.Connect(ctx, bus.Config{URL: "nats://user:hunter2@" + addr}, "test", nopLog())
	if !errors.Is(err, bus.ErrUnreachable) {
		t.Fatalf("Connect() = %v, want ErrUnreachable", err)
	}
	if text := err.Error(); strings.Contains(text, "hunter2") || !strings.Contains(text, addr) || !strings.Contains(text, "NATS_URL") {
		t.Errorf("the error %q shows the password, or neither address nor setting", text)
	}
}

func TestConnectWaitsForTheServer(t *testing.T) {
	t.Parallel()
	port := faulttest.FreePort(t)
	connected := make(chan error, 1)
	go func() {
		conn, err := bus.Connect(t.Context(), bus.Config{URL: fmt.Sprintf("nats://127.0.0.1:%d", port)}, "test", nopLog())
		if err == nil {
			err = conn.Close(context.Background())
		}
		connected <- err
	}()
	startServer(t, overTCP, func(o *server.Options) { o.Port = port })
	select {
	case err := <-connected:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("Connect did not find the server that came up later")
	}
}

func TestARefusedLoginIsToldAtOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t, overTCP, func(o *server.Options) { o.Username, o.Password = "worker", "right" })
	cfg := bus.Config{URL: s.ClientURL(), User: "worker", Password: jobs.NewSecret("wrong-one")}
	_, err := bus.Connect(t.Context(), cfg, "test", nopLog())
	if !errors.Is(err, nats.ErrAuthorization) || errors.Is(err, bus.ErrUnreachable) || strings.Contains(err.Error(), "wrong-one") {
		t.Errorf("Connect() = %v, want the refusal, without the password", err)
	}
	cfg.Password = jobs.NewSecret("right")
	conn, err := bus.Connect(t.Context(), cfg, "test", nopLog())
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAServerThatComesBackIsReconnected(t *testing.T) {
	t.Parallel()
	s := startServer(t, overTCP)
	port := s.Addr().(*net.TCPAddr).Port
	conn, err := bus.Connect(t.Context(), bus.Config{URL: s.ClientURL()}, "test", nopLog())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	s.Shutdown()
	s.WaitForShutdown()
	eventually(t, "the loss is noticed", func() bool { return conn.Healthy() != nil && conn.Disconnects() == 1 })
	startServer(t, overTCP, func(o *server.Options) { o.Port = port })
	eventually(t, "the connection is made again", func() bool { return conn.Healthy() == nil && conn.Reconnects() == 1 })
	select {
	case <-conn.Closed():
		t.Error("a lost connection counts as closed")
	default:
	}
}

// TestAFatalErrorOfTheServerEndsTheConnection: a subject over the limit on protocol lines
// makes the server answer an error that nats.go does not survive.
func TestAFatalErrorOfTheServerEndsTheConnection(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	if err := conn.NATS().Publish(strings.Repeat("x", 5000), nil); err != nil {
		t.Fatal(err)
	}
	select {
	case <-conn.Closed():
	case <-time.After(patience):
		t.Fatal("the connection lives on")
	}
	if err := conn.Err(); err == nil || !strings.Contains(err.Error(), "control line") {
		t.Errorf("Err() = %v, want the server's reason", err)
	}
	if conn.Healthy() == nil {
		t.Error("a closed connection says that it is healthy")
	}
}

func TestAWantedCloseIsNoError(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-conn.Closed()
	if err := conn.Err(); err != nil {
		t.Errorf("Err() = %v after Close, want nil", err)
	}
}

func TestDeniedSubjectsAreNamedOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{"good.>"}},
			Subscribe: &server.SubjectPermission{Deny: []string{"secret.>"}},
		}}}
	})
	conn, err := bus.Connect(t.Context(), bus.Config{User: "u", Password: jobs.NewSecret("p")}, "test", nopLog(), nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	for range 3 {
		if err := conn.NATS().Publish("bad.subject", nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.NATS().SubscribeSync("secret.a"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both denials are known", func() bool { return len(conn.Denied()) >= 2 })
	if got := strings.Join(conn.Denied(), ", "); got != "publish bad.subject, subscription secret.a" {
		t.Errorf("denied %q, want each subject once", got)
	}
}

func TestConnectionSettingsNameEveryFault(t *testing.T) {
	t.Parallel()
	if err := (bus.Config{URL: "nats://127.0.0.1:4222"}).Validate(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	err := bus.Config{URL: " ", Cert: "c", Creds: "f", NKey: "n", Password: jobs.NewSecret("hunter2")}.Validate()
	for _, name := range []string{"NATS_URL", "NATS_KEY", "NATS_PASSWORD", "NATS_CREDS, NATS_NKEY"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not tell of %s", err, name)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v shows the password", err)
	}
}

func TestAddressesOfServers(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		"nats://a:4222", "a", "a:4222", "tls://a", "ws://a/nats", "wss://a:443", "nats://[::1]:4222", "[::1]:4222", " nats://a , nats://b:4222 ,", "nats://ann:hunter2@a", "nats://token@a:1",
	} {
		if err := (bus.Config{URL: good}).Validate(); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"http://a:8222", "https://ann:hunter2@a", "nats://a:99999", "nats://a:0", "nats://a:port", "nats://[::1", "nats://", "nats://:4222", "nats://a,ftp://b", "nats://ann:hunter2,x@a",
	} {
		err := bus.Config{URL: bad}.Validate()
		if err == nil || !strings.Contains(err.Error(), "NATS_URL") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
