package ledger_test

import (
	"testing"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runLedger returns a ledger whose committer runs until the test ends.
func runLedger(t testing.TB, store ledger.Store) *ledger.Ledger {
	t.Helper()
	return ledgertest.Run(t, ledger.New(store, ledgertest.Config(), zerolog.Nop()))
}
