//go:build fault && linux

package fault_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rollcall/internal/faulttest"
)

// snapshots is how long the nodes of a cluster may keep what their log holds: the server takes a
// snapshot of a stream that has changed every two minutes (jetstream_cluster.go, compactInterval).
const snapshots = 5 * time.Minute

// filesWith returns the files below the directories that contain text.
func filesWith(t *testing.T, text string, dirs ...string) (files []string) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return nil //nolint:nilerr // the server replaces files meanwhile
			}
			if content, err := os.ReadFile(path); err == nil && bytes.Contains(content, []byte(text)) {
				files = append(files, path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// TestErasedJobsLeaveTheLogsOfACluster: the streams of three nodes hold nothing of an erased job at
// once, and neither do the logs by which the nodes agree after the next snapshot.
func TestErasedJobsLeaveTheLogsOfACluster(t *testing.T) {
	t.Parallel()
	nodes := make([]faulttest.BrokerOptions, 3)
	var all, streams []string
	for i := range nodes {
		nodes[i].Store = t.TempDir()
		all = append(all, nodes[i].Store)
		streams = append(streams, filepath.Join(nodes[i].Store, "jetstream", "$G", "streams"))
	}
	s := faulttest.NewScenario(t, program, faulttest.StartNodes(t, nodes).URLs(), []string{"billing"})
	s.Env = s.Env.With("ROLLCALL_REPLICAS", "3")
	s.Services[0].Answer(faulttest.Each(func(faulttest.Asked) string { return "fail" }))
	command := func(args ...string) {
		t.Helper()
		if out, err := s.Command(s.Env, args...); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	faulttest.Until(t, clusterPatience, "streams with three replicas were created", func() bool {
		_, err := s.Command(s.Env, "setup", "--archive", "30d")
		return err == nil
	})
	s.Start()
	if out, err := s.Command(s.Env, "publish", "jobs.mail", `{"secret":"payload-of-ann-1"}`, "--id", "ann-1", "--wait"); err == nil {
		t.Errorf("the job did not fail: %s", out)
	}
	command("erase", "ann-1", "--yes")
	faulttest.Until(t, patience, "every node has removed the job from its streams", func() bool {
		return filesWith(t, "ann-1", streams...) == nil
	})
	if filesWith(t, "ann-1", all...) == nil {
		t.Error("the logs hold nothing of the job: docs/data.md may say so")
	}
	began := time.Now()
	faulttest.Until(t, snapshots, "the logs hold nothing of the job", func() bool { return filesWith(t, "ann-1", all...) == nil })
	t.Logf("the logs have dropped the job after %v", time.Since(began).Round(time.Second))
}
