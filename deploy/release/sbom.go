package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const sbomPackage = "github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod"

// sbomTool builds the tool at the version in go.mod. It runs here, whatever it looks at.
func (r *release) sbomTool(ctx context.Context) (string, error) {
	tool := filepath.Join(r.scratch, "cyclonedx-gomod")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", tool, sbomPackage)
	cmd.Dir, cmd.Stderr = filepath.Join(r.root, "deploy", "release"), os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build cyclonedx-gomod: %w", err)
	}
	return tool, nil
}

// sbom lists what is linked into a binary, as the binary itself says (go version -m).
func (r *release) sbom(ctx context.Context, tool string, t target, worker string) error {
	cmd := exec.CommandContext(ctx, tool, "bin", "-json", "-noserial", "-notimestamp", "-std", "-licenses", "-version", r.version, worker)
	// The modules' licenses are looked up in the module cache, through the go command.
	cmd.Dir, cmd.Env = r.root, goEnv(t)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	text, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("list what is in %s: %w\n%s", t, err, problems.String())
	}
	var bom map[string]any
	if err := json.Unmarshal(text, &bom); err != nil {
		return fmt.Errorf("read the bill of materials of %s: %w", t, err)
	}
	anonymous(bom)
	if text, err = json.MarshalIndent(bom, "", "  "); err != nil {
		return fmt.Errorf("write the bill of materials of %s: %w", t, err)
	}
	return write(r.artifact(t, ".cdx.json"), append(text, '\n'))
}

// anonymous takes out the hashes of the tool's own binary: they depend on how and where it was built.
func anonymous(bom map[string]any) {
	metadata, _ := bom["metadata"].(map[string]any)
	tools, _ := metadata["tools"].([]any)
	for _, t := range tools {
		if tool, ok := t.(map[string]any); ok {
			delete(tool, "hashes")
		}
	}
}
