package app_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"rollcall/internal/app"
)

// TestASetupWaitsForJetStream: a leaf node that has just been connected does not know yet that somebody
// answers behind it. Nobody did here either, as long as the server had no JetStream.
func TestASetupWaitsForJetStream(t *testing.T) {
	t.Parallel()
	s := monitored(t, func(o *server.Options) { o.JetStream = false })
	cfg, err := app.Load([]string{"NATS_URL=" + s.ClientURL(), "ROLLCALL_SERVICES=billing=http://localhost"})
	if err != nil {
		t.Fatal(err)
	}
	enabled := make(chan error, 1)
	time.AfterFunc(500*time.Millisecond, func() { enabled <- s.EnableJetStream(&server.JetStreamConfig{StoreDir: t.TempDir()}) })
	plan, err := app.Setup(t.Context(), cfg, zerolog.Nop(), app.Options{}, false)
	if err != nil || len(plan.Created) == 0 {
		t.Errorf("created %v, %v; want the setup to wait until somebody answers", plan.Created, err)
	}
	if err := <-enabled; err != nil {
		t.Error(err)
	}
}
