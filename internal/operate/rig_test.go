package operate_test

import (
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
	receive     = bustest.Receive
	openSource  = bustest.OpenSource
	patient     = bustest.Patient
	stateOf     = bustest.StateOf
	editStream  = bustest.EditStream
)

func nopLog() zerolog.Logger { return zerolog.Nop() }

// runLedger returns a ledger whose committer runs until the test ends.
func runLedger(t testing.TB, conn *bus.Conn) *ledger.Ledger {
	t.Helper()
	config := ledgertest.Config()
	config.EventSubject = bus.EventSubject
	return ledgertest.Run(t, ledger.New(bus.NewDoneStore(conn), config, nopLog()))
}

// adminOf returns the administration of the pool of these tests.
func adminOf(conn *bus.Conn) *operate.Admin { return operate.NewAdmin(conn, streams(), pool) }
