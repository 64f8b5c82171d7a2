package operate_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
)

// TestAReplicaIsFoundAgainWhenItsRightsAreBack: the server drops the subscriptions of a micro
// service when the right to them is taken away by a reload, and makes none of them again.
func TestAReplicaIsFoundAgainWhenItsRightsAreBack(t *testing.T) {
	t.Parallel()
	path, store := filepath.Join(t.TempDir(), "nats.conf"), t.TempDir()
	configure := func(permissions string) *server.Options {
		text := fmt.Sprintf(`
listen: 127.0.0.1:-1
jetstream: {store_dir: %q}
accounts: {
  A: {jetstream: enabled, users: [{user: worker, password: w, %s}, {user: admin, password: a}]}
}`, store, permissions)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		o, err := server.ProcessConfigFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	s := faulttest.StartServer(t, *configure(""))
	login := func(user, password string) *bus.Conn {
		conn, err := bus.Connect(t.Context(), bus.Config{URL: s.ClientURL(), User: user, Password: jobs.NewSecret(password)}, user, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return conn
	}
	admin := adminOf(login("admin", "a"))
	worker := login("worker", "w")
	announce(t, worker, pool, "r1", "v1.2.3")
	found := func() bool {
		replicas, err := admin.Replicas(t.Context())
		return err == nil && len(replicas) == 1
	}
	if !found() {
		t.Fatal("the replica is not found at first")
	}
	for _, permissions := range []string{`permissions: {subscribe: {deny: ["$SRV.>", "rollcall.>"]}}`, ""} {
		configure(permissions)
		if err := s.Reload(); err != nil {
			t.Fatal(err)
		}
		await(t, "the reload has its effect", func() bool { return found() == (permissions == "") })
	}
	if worker.Disconnects() > 0 {
		t.Error("the connection was broken for it")
	}
}

// await waits until a condition holds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
