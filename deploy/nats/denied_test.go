package nats_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// TestNobodyCanDoMore tries everything a role has no business with. The server answers a
// denied publication with nothing at all; the reason reaches the error handler only.
func TestNobodyCanDoMore(t *testing.T) {
	t.Parallel()
	s := start(t, "nats-server.conf")
	provision(t, s)
	publishJob(t, s)
	for user, subjects := range map[string][]string{
		"producer": {
			"done.batches.default.succeeded.forged", "done.ledger.default.page.JOBS.e.0.0", "dead.default.jobs.x",
			"batches.default.succeeded.forged", "svc.billing", "later.x", "due.x",
			"$JS.API.STREAM.INFO.JOBS", "$JS.API.STREAM.CREATE.MINE", "$JS.API.STREAM.DELETE.JOBS", "$JS.API.STREAM.PURGE.JOBS",
			"$JS.API.STREAM.MSG.GET.JOBS", "$JS.API.DIRECT.GET.DONE", "$JS.API.CONSUMER.CREATE.JOBS.mine",
			"$JS.API.CONSUMER.MSG.NEXT.JOBS.default", "$JS.ACK.JOBS.default.1.1.1.1.0", "$JS.API.INFO", "other.x", "_INBOX.worker.x",
		},
		"worker": {
			"jobs.x", "later.x", "due.x", "batches.default.succeeded.forged", "done.other", "done.batches.>", "other.x",
			"$JS.API.STREAM.CREATE.MINE", "$JS.API.STREAM.UPDATE.JOBS", "$JS.API.STREAM.DELETE.JOBS", "$JS.API.STREAM.PURGE.JOBS",
			"$JS.API.STREAM.PURGE.DEAD", "$JS.API.STREAM.DELETE.LATER", "$JS.API.STREAM.MSG.GET.LATER", "$JS.API.STREAM.MSG.DELETE.DONE", "$JS.API.STREAM.MSG.GET.DEAD",
			"$JS.API.CONSUMER.CREATE.JOBS.mine", "$JS.API.CONSUMER.DELETE.JOBS.default", "$JS.API.CONSUMER.CREATE.DEAD.mine",
			"$JS.API.DIRECT.GET.OTHER", "$JS.API.CONSUMER.PAUSE.JOBS.default", "_INBOX.producer.x",
		},
		"ops": {"due.x", "done.other", "dead.default.jobs.x", "batches.default.succeeded.forged", "$SYS.REQ.SERVER.PING", "_INBOX.worker.x"},
	} {
		for _, subject := range subjects {
			t.Run(user+" publishes to "+subject, func(t *testing.T) {
				t.Parallel()
				expectDenied(t, s, user, func(nc *nats.Conn) error { return nc.Publish(subject, []byte("{}")) })
			})
		}
	}
	for user, subjects := range map[string][]string{
		"producer": {"jobs.>", "done.>", "dead.>", "batches.>", "_INBOX.>", "_INBOX.worker.>", "$JS.API.>", ">", "svc.>"},
		"worker":   {"jobs.>", "done.>", "dead.>", "batches.>", "_INBOX.>", "_INBOX.producer.>", "$JS.ACK.>", ">", "svc.>"},
		"ops":      {"done.>", "jobs.>", "_INBOX.>", "_INBOX.worker.>", ">", "$SYS.>"},
	} {
		for _, subject := range subjects {
			t.Run(user+" subscribes to "+subject, func(t *testing.T) {
				t.Parallel()
				expectDenied(t, s, user, func(nc *nats.Conn) error {
					_, err := nc.SubscribeSync(subject)
					return err
				})
			})
		}
	}
}

func expectDenied(t *testing.T, s *server.Server, user string, attempt func(*nats.Conn) error) {
	t.Helper()
	denied := make(chan error, 1)
	nc := login(t, s, user, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		select {
		case denied <- err:
		default:
		}
	}))
	if err := attempt(nc); err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushTimeout(soon); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-denied:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("the server said %v, want a permission violation", err)
		}
	case <-time.After(soon):
		t.Error("allowed")
	}
}

func TestNobodyComesInWithoutAPassword(t *testing.T) {
	t.Parallel()
	s := start(t, "nats-server.conf")
	for name, option := range map[string]nats.Option{
		"no user":        nats.Name("anonymous"),
		"empty password": nats.UserInfo("worker", ""),
		"wrong password": nats.UserInfo("worker", "ops-secret"),
		"unknown user":   nats.UserInfo("admin", "admin"),
	} {
		if nc, err := nats.Connect(s.ClientURL(), option); err == nil {
			nc.Close()
			t.Errorf("%s was let in", name)
		}
	}
}
