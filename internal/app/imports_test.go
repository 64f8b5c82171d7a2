package app_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "rollcall/"

// allowed says which of our own packages each package may import. Third parties are open to
// all but jobs, which has the standard library only.
var allowed = map[string][]string{
	"internal/jobs":           {},
	"internal/settings":       {"internal/jobs"},
	"internal/table":          {},
	"internal/pool":           {"internal/jobs"},
	"internal/retry":          {},
	"internal/ledger":         {"internal/jobs", "internal/retry"},
	"internal/bus":            {"internal/jobs", "internal/ledger", "internal/retry"},
	"internal/operate":        {"internal/jobs", "internal/bus", "internal/ledger", "internal/retry"},
	"internal/service":        {"internal/jobs", "internal/retry"},
	"internal/telemetry":      {"internal/jobs", "internal/telemetry/otlp"},
	"internal/telemetry/otlp": {"internal/jobs", "internal/retry"},
	"internal/web":            {"internal/jobs"},
	"internal/demo":           {"internal/app", "internal/devkit", "internal/history", "internal/telemetry"},
	"internal/app": {
		"internal/jobs", "internal/settings", "internal/pool", "internal/ledger", "internal/bus", "internal/operate", "internal/retry", "internal/service", "internal/telemetry", "internal/web",
	},
}

// packages lists every package of the module with what it imports outside of tests.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	command.Dir = "../.."
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		all[strings.TrimPrefix(words[0], module)] = words[1:]
	}
	return all
}

func TestRoomsImportEachOtherByTheRule(t *testing.T) {
	t.Parallel()
	all := packages(t)
	for name, may := range allowed {
		imports, found := all[name]
		if !found {
			t.Errorf("there is no package %s", name)
		}
		for _, path := range imports {
			own, isOwn := strings.CutPrefix(path, module)
			switch {
			case isOwn && !slices.Contains(may, own):
				t.Errorf("%s imports %s", name, own)
			case name == "internal/jobs" && !isOwn && strings.Contains(path, "."):
				t.Errorf("%s imports %s; it may import the standard library only", name, path)
			}
		}
	}
}

func TestTheDevkitStaysOutOfProduction(t *testing.T) {
	t.Parallel()
	for name, imports := range packages(t) {
		room := strings.HasPrefix(name, "internal/") && allowed[name] != nil
		for _, path := range imports {
			if room && strings.Contains(path, "nats-server") {
				t.Errorf("%s imports %s; only the devkit, tests and benchmarks may", name, path)
			}
			if room && name != "internal/demo" && path == module+"internal/devkit" {
				t.Errorf("%s imports the devkit; only cmd/worker, the demo and tests may", name)
			}
		}
	}
}

// TestTheWorkerIsBuiltWithoutGRPC: it speaks no gRPC, and a first build would compile a hundred packages
// more.
func TestTheWorkerIsBuiltWithoutGRPC(t *testing.T) {
	t.Parallel()
	command := exec.CommandContext(t.Context(), "go", "list", "-deps", "./cmd/worker")
	command.Dir = "../.."
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for path := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(path, "google.golang.org/grpc") {
			t.Fatalf("cmd/worker needs %s", path)
		}
	}
	if !strings.Contains(string(out), module+"internal/telemetry/otlp\n") {
		t.Error("cmd/worker exports no traces, so this test looks at the wrong packages")
	}
}
