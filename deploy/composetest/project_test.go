package composetest_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// root is the repository.
const root = "../.."

// load reads the compose file as Compose does, with every profile and no variable set but
// those given. A .env that somebody keeps in the checkout is left out.
func load(t *testing.T, env ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")},
		cli.WithEnv(env), cli.WithProfiles([]string{"*"}), cli.WithoutEnvironmentResolution, cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatalf("docker-compose.yml: %v", err)
	}
	return project
}

// ours are the services that run our image.
func ours(p *types.Project) []types.ServiceConfig {
	var found []types.ServiceConfig
	for _, s := range p.Services {
		if s.Image == p.Services["worker"].Image {
			found = append(found, s)
		}
	}
	return found
}

// environ is the environment that a service gets from the file, as os.Environ gives it.
func environ(s types.ServiceConfig) []string {
	var env []string
	for name, value := range s.Environment {
		if value != nil {
			env = append(env, name+"="+*value)
		}
	}
	return env
}

// assignments are the NAME=value lines of a file. Those that are commented out, written
// #NAME=value without a blank, count if examples does.
func assignments(t *testing.T, file string, examples bool) []string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if bare, commented := strings.CutPrefix(line, "#"); commented && examples {
			line = bare
		}
		if name, _, is := strings.Cut(line, "="); is && name != "" && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") == "" {
			found = append(found, line)
		}
	}
	return found
}

// value is what the last assignment gives to a name.
func value(assigned []string, name string) (string, bool) {
	for _, a := range slices.Backward(assigned) {
		if n, v, _ := strings.Cut(a, "="); n == name {
			return v, true
		}
	}
	return "", false
}
