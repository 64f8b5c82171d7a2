package bus_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"rollcall/internal/bus"
	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
)

// reload puts a configuration file in force.
func reload(t testing.TB, s *server.Server, path, config string) {
	t.Helper()
	writeFile(t, path, config)
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
}

// TestRightsThatComeAndGo: what a reload has taken away and another one gives back must not
// leave a worker that is called ready and takes no jobs.
func TestRightsThatComeAndGo(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]string{
		"the inbox":  `permissions: {subscribe: {deny: ["_INBOX.>"]}}`,
		"acks":       `permissions: {publish: {deny: ["$JS.ACK.>"]}}`,
		"pulls":      `permissions: {publish: {deny: ["$JS.API.CONSUMER.MSG.NEXT.>"]}}`,
		"every look": `permissions: {publish: {deny: ["$JS.API.>"]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := t.TempDir() + "/nats.conf"
			store := t.TempDir()
			config := func(permissions string) string {
				return fmt.Sprintf(`
listen: 127.0.0.1:-1
jetstream: {store_dir: %q}
accounts: {
  A: {jetstream: enabled, users: [{user: worker, password: w, %s}, {user: admin, password: a}]}
}`, store, permissions)
			}
			writeFile(t, path, config(""))
			options, err := server.ProcessConfigFile(path)
			if err != nil {
				t.Fatal(err)
			}
			s := faulttest.StartServer(t, *options)
			conn := login(t, s, "worker", "w")
			admin := login(t, s, "admin", "a")
			source, intake, _ := openSource(t, ensure(t, admin, streams()), conn)
			arrived := keepReceiving(t, intake, source)
			publish(t, admin, "jobs.a", numbered(3)...)
			for range 3 {
				next(t, arrived)
			}

			reload(t, s, path, config(broken))
			publish(t, admin, "jobs.a", numbered(5)...)
			if name != "acks" {
				eventually(t, "the source is not ready", func() bool { return source.Healthy() != nil })
			}
			eventually(t, "the denial is known", func() bool { return len(conn.Denied()) > 0 })
			reload(t, s, path, config(""))
			eventually(t, "all jobs are settled", func() bool { return jobsLeft(t, admin) == 0 })
			eventually(t, "the source is ready", func() bool { return source.Healthy() == nil })
			publish(t, admin, "jobs.a", numbered(3)...)
			eventually(t, "new jobs are settled", func() bool { return jobsLeft(t, admin) == 0 })
		})
	}
}

// TestDenialsAreBounded: every denied ack names another subject.
func TestDenialsAreBounded(t *testing.T) {
	t.Parallel()
	s := startServer(t, overTCP, func(o *server.Options) {
		deny := &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"$JS.ACK.>", "other.>"}}}
		o.Users = []*server.User{{Username: "worker", Password: "w", Permissions: deny}}
	})
	conn := login(t, s, "worker", "w")
	const n = 2000
	for i := range n {
		for _, subject := range []string{"$JS.ACK.JOBS.test.1.%d.%d.0.0", "$JS.ACK.hub.HASH.JOBS.test.1.%d.%d.0.0.tail", "other.%d.%d"} {
			if err := conn.NATS().Publish(fmt.Sprintf(subject, i, i), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := conn.NATS().FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("publish other.%d.%d", n-1, n-1)
	eventually(t, "the last denial is known", func() bool { return conn.WasDenied(want) })
	if len(conn.Denied()) > 64 {
		t.Errorf("%d denials are remembered", len(conn.Denied()))
	}
	for _, pattern := range []string{"$JS.ACK.JOBS.test.>", "$JS.ACK.hub.HASH.JOBS.test.>"} {
		if !strings.Contains(strings.Join(conn.Denied(), ","), "publish "+pattern) {
			t.Errorf("%v does not have %s", conn.Denied(), pattern)
		}
	}
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// login returns a connection of a user.
func login(t testing.TB, s *server.Server, user, password string) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{URL: s.ClientURL(), User: user, Password: jobs.NewSecret(password)}, t.Name(), nopLog())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}
