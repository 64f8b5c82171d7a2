package composetest_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"rollcall/internal/app"
)

// shown are the variables whose example is not the default, because the default is elsewhere.
var shown = map[string]bool{"ROLLCALL_SERVICES": true, "ROLLCALL_BATCH_LINGER": true, "ROLLCALL_LOG_LEVEL": true}

func TestExampleEnvNamesEveryVariableWithItsDefault(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile(filepath.Join(root, "docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	example := assignments(t, ".env.example", true)
	defaults := map[string]string{}
	for _, m := range regexp.MustCompile(`\$\{([A-Z_]+):-([^}]*)\}`).FindAllStringSubmatch(string(file), -1) {
		name, fallback := m[1], m[2]
		if before, seen := defaults[name]; seen && before != fallback {
			t.Errorf("%s falls back to %q here and to %q there", name, before, fallback)
		}
		defaults[name] = fallback
	}
	for name, fallback := range defaults {
		switch got, found := value(example, name); {
		case !found && name != "NATS_CONF" && name != "ROLLCALL_REPLICAS": // deploy/cluster.env sets them
			t.Errorf(".env.example does not mention %s", name)
		case found && got != fallback && !shown[name]:
			t.Errorf(".env.example says %s=%s, the default is %q", name, got, fallback)
		}
	}
	for _, line := range example {
		name, _, _ := strings.Cut(line, "=")
		if _, used := defaults[name]; !used && !shown[name] {
			t.Errorf(".env.example mentions %s, which nothing reads", name)
		}
	}
}

// Setup, workers and producer get the whole of .env, and refuse a ROLLCALL_ variable that they
// do not know.
func TestWorkersTakeTheWholeExampleEnv(t *testing.T) {
	t.Parallel()
	if _, err := app.LoadRun(assignments(t, ".env.example", true)); err != nil {
		t.Error(err)
	}
}
