package bus_test

import (
	"testing"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"rollcall/internal/bus/bustest"
	"rollcall/internal/faulttest"
)

func TestMain(m *testing.M) {
	faulttest.Role(nil)
	goleak.VerifyTestMain(m, faulttest.ServerLeftovers())
}

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
	runSource   = bustest.RunSource
	receive     = bustest.Receive
	openSource  = bustest.OpenSource
	patient     = bustest.Patient
	stateOf     = bustest.StateOf
	editStream  = bustest.EditStream
)

func within[T any](t testing.TB, f func() (T, error)) (T, error) {
	t.Helper()
	return bustest.Within(t, f)
}

func nopLog() zerolog.Logger { return zerolog.Nop() }
