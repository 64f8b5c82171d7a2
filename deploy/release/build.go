package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// target is a platform.
type target struct{ os, arch string }

func (t target) String() string { return t.os + "_" + t.arch }

// platforms are those that a release is made for.
const platforms = "linux_amd64,linux_arm64,darwin_amd64,darwin_arm64"

// parseTargets reads a comma list like [platforms].
func parseTargets(list string) ([]target, error) {
	var targets []target
	for name := range strings.SplitSeq(list, ",") {
		system, arch, found := strings.Cut(name, "_")
		if !found {
			return nil, fmt.Errorf("%q is no platform; write <os>_<arch>, as in %s", name, platforms)
		}
		targets = append(targets, target{system, arch})
	}
	return targets, nil
}

// goEnv is the environment of the go command: what could change the bytes is set here, whatever
// the builder has set.
func goEnv(t target) []string {
	return append(os.Environ(),
		"GOOS="+t.os, "GOARCH="+t.arch, "CGO_ENABLED=0", "GOFLAGS=", "GOEXPERIMENT=", "GOWORK=off",
		"GOAMD64=v1", "GOARM64=v8.0", "GOTOOLCHAIN=local")
}

// build compiles the worker and returns its path. The version is stamped by the linker and not by
// -buildvcs: the same bytes come out of a source archive that has no git history.
func (r *release) build(ctx context.Context, t target) (string, error) {
	worker := filepath.Join(r.scratch, t.String(), "worker")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", fmt.Sprintf("-s -w -buildid= -X main.version=%s -X main.revision=%s", r.version, r.revision),
		"-o", worker, "./cmd/worker")
	cmd.Dir, cmd.Env, cmd.Stderr = r.root, goEnv(t), os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build %s: %w", t, err)
	}
	return worker, nil
}

// artifact is the path of a file of this version.
func (r *release) artifact(t target, suffix string) string {
	return filepath.Join(r.out, fmt.Sprintf("rollcall_%s_%s%s", r.version, t, suffix))
}
