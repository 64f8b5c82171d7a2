package operate_test

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/operate"
)

// workerRights is everything a worker of the pool needs, as deploy/nats grants it.
var workerRights = []string{
	"$JS.API.STREAM.INFO.JOBS", "$JS.API.STREAM.INFO.DONE", "$JS.API.STREAM.INFO.DEAD",
	"$JS.API.CONSUMER.INFO.JOBS.test", "$JS.API.CONSUMER.MSG.NEXT.JOBS.test", "$JS.ACK.JOBS.test.>",
	"done.batches.test.*.*", "done.sets.test.*.*", "done.ledger.test.>", "$JS.API.DIRECT.GET.DONE", "$JS.API.STREAM.PURGE.DONE",
	"dead.test.>", "$JS.API.STREAM.MSG.GET.JOBS", "$JS.API.INFO", "$JS.API.STREAM.INFO.LATER", "$JS.API.STREAM.PURGE.LATER",
	"$SRV.PING.rollcall", "rollcall.test.*.status",
}

// restricted starts a server with streams and consumer, and a user with some rights only.
func restricted(t *testing.T, publish []string, subscribe string) (admin, user *bus.Conn) {
	t.Helper()
	return restrictedLogging(t, publish, subscribe, zerolog.Nop())
}

// restrictedLogging is restricted with the log of the user's connection.
func restrictedLogging(t *testing.T, publish []string, subscribe string, log zerolog.Logger) (admin, user *bus.Conn) {
	t.Helper()
	s := startServer(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "admin", Password: "secret"},
			{Username: "worker", Password: "secret", Permissions: &server.Permissions{
				Publish:   &server.SubjectPermission{Allow: publish},
				Subscribe: &server.SubjectPermission{Allow: []string{subscribe}},
			}},
		}
	})
	login := func(name string, log zerolog.Logger) *bus.Conn {
		cfg := bus.Config{URL: "nats://127.0.0.1:4222", User: name, Password: jobs.NewSecret("secret")}
		conn, err := bus.Connect(t.Context(), cfg, t.Name(), log, nats.InProcessServer(s))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := conn.Close(ctx); err != nil {
				t.Error(err)
			}
		})
		return conn
	}
	admin = login("admin", zerolog.Nop())
	ensure(t, admin, streams())
	return admin, login("worker", log)
}

func TestMissingRightsNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	for i, withheld := range workerRights {
		t.Run(withheld, func(t *testing.T) {
			t.Parallel()
			rights := slices.Delete(slices.Clone(workerRights), i, i+1)
			_, user := restricted(t, rights, "_INBOX.worker.>")
			missing, err := adminOf(user).MissingRights(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(missing) != 1 || missing[0].Subject != withheld || missing[0].Unknown || missing[0].Purpose == "" {
				t.Errorf("without %s the missing rights are %+v", withheld, missing)
			}
		})
	}
}

func TestMissingRightsNamesTheInbox(t *testing.T) {
	t.Parallel()
	_, user := restricted(t, workerRights, "_INBOX.somebody.>")
	missing, err := adminOf(user).MissingRights(t.Context())
	want := []operate.Right{{Subject: "_INBOX.worker.>", Subscribe: true, Purpose: "receive replies of the server"}}
	if diff := cmp.Diff(want, missing); diff != "" || err != nil {
		t.Errorf("missing rights (-want +got), %v:\n%s", err, diff)
	}
}

// stuck is a log that takes nothing until it is released.
type stuck struct{ begun, released chan struct{} }

func (s stuck) Write(p []byte) (int, error) {
	select {
	case s.begun <- struct{}{}:
	default: // the first time only
	}
	<-s.released
	return len(p), nil
}

// TestMissingRightsNamesTheInboxBeforeTheErrorHandlerDoes: on a busy machine the news of a
// denial reaches the handler late, and everything looked like a server without a reply.
func TestMissingRightsNamesTheInboxBeforeTheErrorHandlerDoes(t *testing.T) {
	t.Parallel()
	handler := stuck{begun: make(chan struct{}, 1), released: make(chan struct{})}
	_, user := restrictedLogging(t, workerRights, "_INBOX.somebody.>", zerolog.New(handler))
	t.Cleanup(func() { close(handler.released) })
	if err := user.NATS().Publish("denied", nil); err != nil {
		t.Fatal(err)
	}
	<-handler.begun
	missing, err := adminOf(user).MissingRights(t.Context())
	if err != nil || len(missing) != 1 || missing[0].Subject != "_INBOX.worker.>" || !missing[0].Subscribe {
		t.Errorf("missing rights %+v, %v; want the inbox alone", missing, err)
	}
}

// TestMissingRightsChangesNothing: trying the rights takes no job and stores nothing.
func TestMissingRightsChangesNothing(t *testing.T) {
	t.Parallel()
	admin, user := restricted(t, workerRights, "_INBOX.worker.>")
	for _, subject := range []string{"jobs.a", "done.ledger.test.page.JOBS.0.0.1"} {
		if _, err := admin.NATS().Request(subject, []byte("x"), patience); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the server has the consumer count the job", func() bool {
		return strings.Contains(serverState(t, admin)["CONSUMER.INFO.JOBS.test"], `"num_pending":1`)
	})
	before := serverState(t, admin)
	missing, err := adminOf(user).MissingRights(t.Context())
	if err != nil || len(missing) != 0 {
		t.Errorf("with every right, missing are %+v, %v", missing, err)
	}
	if diff := cmp.Diff(before, serverState(t, admin)); diff != "" {
		t.Errorf("the streams and the consumer changed (-before +after):\n%s", diff)
	}
}

// serverState is what trials must not change.
func serverState(t *testing.T, conn *bus.Conn) map[string]string {
	t.Helper()
	state := map[string]string{}
	for _, subject := range []string{"STREAM.INFO.JOBS", "STREAM.INFO.DONE", "STREAM.INFO.DEAD", "CONSUMER.INFO.JOBS.test"} {
		m, err := conn.NATS().Request("$JS.API."+subject, nil, patience)
		if err != nil {
			t.Fatal(err)
		}
		text, _, _ := strings.Cut(string(m.Data), `"ts":`)                               // the time of the reply itself
		state[subject] = regexp.MustCompile(`"active":-?\d+`).ReplaceAllString(text, "") // how long ago a source was heard of
	}
	return state
}

func TestMissingRightsWithoutStreams(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	missing, err := adminOf(connect(t, s)).MissingRights(t.Context())
	if err != nil || len(missing) != 0 {
		t.Errorf("for a user who may do everything, missing are %+v, %v", missing, err)
	}
}
