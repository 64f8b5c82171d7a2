package bus_test

import (
	"context"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

func TestUsersHaveInboxesOfTheirOwn(t *testing.T) {
	t.Parallel()
	for user, want := range map[string]string{"worker": "_INBOX.worker.", "a.b": "_INBOX.", "odd > user": "_INBOX."} {
		s := startServer(t, func(o *server.Options) { o.Username, o.Password = user, "secret" })
		cfg := bus.Config{URL: "nats://127.0.0.1:4222", User: user, Password: jobs.NewSecret("secret")}
		conn, err := bus.Connect(t.Context(), cfg, t.Name(), zerolog.Nop(), nats.InProcessServer(s))
		if err != nil {
			t.Fatal(err)
		}
		inbox := conn.NATS().NewInbox()
		if rest, found := strings.CutPrefix(inbox, want); !found || strings.Contains(rest, ".") {
			t.Errorf("user %q has the inbox %s, want %s and one token", user, inbox, want)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if err := conn.Close(ctx); err != nil {
			t.Error(err)
		}
		cancel()
	}
}
