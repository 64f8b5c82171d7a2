package operate_test

import (
	"context"
	"testing"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"rollcall/internal/bus"
	"rollcall/internal/bus/bustest"
	"rollcall/internal/faulttest"
	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
	"rollcall/internal/operate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, faulttest.ServerLeftovers()) }

// The rig of bus, by short names.
const (
	patience = bustest.Patience
	pool     = bustest.Pool
)

var (
	startServer = bustest.StartServer
	connect     = bustest.Connect
	streams     = bustest.Streams
	ensure      = bustest.Ensure
	jetStream   = bustest.JetStream
	publish     = bustest.Publish
	numbered    = bustest.Numbered
	eventually  = bustest.Eventually
	closeSource = bustest.CloseSource
	receive     = bustest.Receive
)

func nopLog() zerolog.Logger { return zerolog.Nop() }

// openSource returns a source and its intake context; both end with the test.
func openSource(t testing.TB, setup *bus.Setup, conn *bus.Conn) (*bus.Source, context.Context, context.CancelFunc) {
	t.Helper()
	source := bus.NewSource(conn, setup, nopLog())
	intake, stop := context.WithCancel(context.Background())
	life, end := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- source.Run(life) }()
	t.Cleanup(func() {
		stop()
		closeSource(t, source)
		end()
		if err := <-ran; err != nil {
			t.Errorf("run the source: %v", err)
		}
	})
	return source, intake, stop
}

// runLedger returns a ledger whose committer runs until the test ends.
func runLedger(t testing.TB, conn *bus.Conn) *ledger.Ledger {
	t.Helper()
	config := ledgertest.Config()
	config.EventSubject = bus.EventSubject
	return ledgertest.Run(t, ledger.New(bus.NewDoneStore(conn), config, nopLog()))
}

func patient(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// adminOf returns the administration of the pool of these tests.
func adminOf(conn *bus.Conn) *operate.Admin { return operate.NewAdmin(conn, streams(), pool) }
