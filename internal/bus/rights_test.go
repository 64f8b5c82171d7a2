package bus_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"rollcall/internal/bus"
	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
)

// TestRightsThatComeAndGo: what a reload has taken away and another one gives back must not
// leave a worker that is called ready and takes no jobs. The server is a process of its own: its
// reload reads what a client that connects meanwhile writes, and the race detector would report that.
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
			accounts := func(permissions string) string {
				return fmt.Sprintf("accounts: {A: {jetstream: enabled, users: [{user: worker, password: w, %s}, {user: admin, password: a}]}}", permissions)
			}
			broker := faulttest.StartBroker(t, faulttest.BrokerOptions{Extra: accounts("")})
			reload := func(permissions string) {
				broker.Configure("1GB", accounts(permissions))
				broker.Reload()
			}
			conn := login(t, broker.URL, "worker", "w")
			admin := login(t, broker.URL, "admin", "a")
			source, intake, _ := openSource(t, ensure(t, admin, streams()), conn)
			arrived := keepReceiving(t, intake, source)
			publish(t, admin, "jobs.a", numbered(3)...)
			for range 3 {
				next(t, arrived)
			}

			reload(broken)
			publish(t, admin, "jobs.a", numbered(5)...)
			if name != "acks" {
				eventually(t, "the source is not ready", func() bool { return source.Healthy() != nil })
			}
			eventually(t, "the denial is known", func() bool { return len(conn.Denied()) > 0 })
			reload("")
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
	conn := login(t, s.ClientURL(), "worker", "w")
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

// login returns a connection of a user.
func login(t testing.TB, url, user, password string) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{URL: url, User: user, Password: jobs.NewSecret(password)}, t.Name(), nopLog())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}
