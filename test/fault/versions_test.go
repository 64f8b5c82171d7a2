//go:build fault && linux

package fault_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rollcall/internal/faulttest"
	"rollcall/internal/history"
)

// unreleased stands in for the last release as long as none is tagged: the first commit that has all
// streams and records of today.
const unreleased = "fcec40c5932d2e2fa0b80be469c136840338047e"

// TestOldAndNewReplicasInOnePool: a rolling deploy runs the last release and this tree beside each
// other. Whoever takes a job, it ends once, and each can read what the other wrote.
func TestOldAndNewReplicasInOnePool(t *testing.T) {
	t.Parallel()
	old := lastRelease(t)
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing", "search"})
	s.Services[0].Answer(mixed())
	s.Program = old
	s.Setup()
	s.Start()
	stop := s.Load.Start(200)
	faulttest.Progress(t, patience, "calls", s.Services[0].Count)
	s.Program = program
	upgraded := s.Start()
	faulttest.Progress(t, patience, "calls", s.Services[0].Count)
	// The old replica takes over what the new one held and has written down.
	upgraded.Kill()
	faulttest.Progress(t, patience, "calls", s.Services[0].Count)
	s.Start()
	stop()
	s.Judge(patience, history.History{})
}

// lastRelease builds the worker of the newest tag before this commit, which may be a release itself.
func lastRelease(t *testing.T) (path string) {
	t.Helper()
	tag, err := exec.CommandContext(t.Context(), "git", "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*", "HEAD^").Output()
	if err != nil {
		tag = []byte(unreleased)
	}
	if exec.CommandContext(t.Context(), "git", "cat-file", "-e", strings.TrimSpace(string(tag))+"^{commit}").Run() != nil {
		t.Skip("NOT TESTED: this clone reaches back neither to a release nor to " + unreleased)
	}
	dir := t.TempDir()
	unpack := exec.CommandContext(t.Context(), "sh", "-c", "git archive "+strings.TrimSpace(string(tag))+" | tar -x -C "+dir)
	unpack.Dir = "../.."
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("unpack %s: %v\n%s", tag, err, out)
	}
	path = filepath.Join(dir, "bin", "worker")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", path, "./cmd/worker")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", tag, err, out)
	}
	return path
}
