package main

import "slices"

var (
	sim       = []string{"./internal/sim", "-skip", "Outage/jobs:5000", "-seeds", "600"}
	poolPkg   = []string{"./internal/pool"}
	busPkg    = []string{"./internal/bus"}
	ledgerPkg = []string{"./internal/ledger"}
	service   = []string{"./internal/service"}
	pure      = []string{"./internal/jobs"}
	renamed   = []string{"./internal/app", "-run", "Renamed"}
	setBack   = []string{"./internal/bus", "-run", "SetBack|FurtherAgain"}
	asked     = []string{"./internal/operate"}
	printed   = []string{"./internal/table"}
	erased    = []string{"./cmd/worker", "-run", "Erased"}
	cancels   = []string{"./cmd/worker", "-run", "TestCancel_"}
	logged    = []string{"./internal/telemetry"}
)

// mutants returns the planted bugs of all rooms.
func mutants() []mutant {
	return slices.Concat(ofPool, ofLedger, ofSets, ofBus, ofJobs, ofService, shown)
}
