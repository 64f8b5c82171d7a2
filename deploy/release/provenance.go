package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The documents that provenance follows: https://in-toto.io/Statement/v1 with the predicate
// https://slsa.dev/spec/v1.0/provenance.
const (
	statementType = "https://in-toto.io/Statement/v1"
	predicateType = "https://slsa.dev/provenance/v1"
	buildType     = "urn:rollcall:make-release:v1"
)

type descriptor struct {
	Name   string            `json:"name,omitempty"`
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest,omitempty"`
}

type statement struct {
	Type          string       `json:"_type"`
	Subject       []descriptor `json:"subject"`
	PredicateType string       `json:"predicateType"`
	Predicate     predicate    `json:"predicate"`
}

type predicate struct {
	BuildDefinition struct {
		BuildType            string            `json:"buildType"`
		ExternalParameters   map[string]string `json:"externalParameters"`
		InternalParameters   map[string]string `json:"internalParameters"`
		ResolvedDependencies []descriptor      `json:"resolvedDependencies"`
	} `json:"buildDefinition"`
	RunDetails struct {
		Builder struct {
			ID string `json:"id"`
		} `json:"builder"`
	} `json:"runDetails"`
}

// provenance says what every artifact was made of, and how. It is not signed: whoever publishes
// signs it. When and where the build ran is left out, so that it can be made again and compared;
// ROLLCALL_BUILDER_ID names the builder.
func (r *release) provenance(ctx context.Context) error {
	subjects, err := r.artifacts()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "env", "GOVERSION")
	cmd.Dir, cmd.Env = r.root, goEnv(r.targets[0])
	goVersion, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("ask for the version of Go: %w", err)
	}
	modules, err := digest(filepath.Join(r.root, "go.sum"))
	if err != nil {
		return err
	}
	s := statement{Type: statementType, Subject: subjects, PredicateType: predicateType}
	d := &s.Predicate.BuildDefinition
	d.BuildType = buildType
	d.ExternalParameters = map[string]string{"version": r.version, "revision": r.revision}
	d.InternalParameters = map[string]string{
		"go": strings.TrimSpace(string(goVersion)), "SOURCE_DATE_EPOCH": fmt.Sprint(r.time.Unix()),
	}
	d.ResolvedDependencies = []descriptor{
		{Name: "source", Digest: map[string]string{"gitCommit": r.revision}},
		{Name: "go.sum", Digest: map[string]string{"sha256": modules}},
	}
	s.Predicate.RunDetails.Builder.ID = os.Getenv("ROLLCALL_BUILDER_ID")
	if s.Predicate.RunDetails.Builder.ID == "" {
		s.Predicate.RunDetails.Builder.ID = "urn:rollcall:builder:unnamed"
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write the provenance: %w", err)
	}
	return write(filepath.Join(r.out, "rollcall_"+r.version+".provenance.json"), append(text, '\n'))
}

// artifacts lists the files made so far, by name.
func (r *release) artifacts() ([]descriptor, error) {
	entries, err := os.ReadDir(r.out) // sorted
	if err != nil {
		return nil, fmt.Errorf("list the artifacts: %w", err)
	}
	all := make([]descriptor, len(entries))
	for i, e := range entries {
		sum, err := digest(filepath.Join(r.out, e.Name()))
		if err != nil {
			return nil, err
		}
		all[i] = descriptor{Name: e.Name(), Digest: map[string]string{"sha256": sum}}
	}
	return all, nil
}

func digest(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("hash an artifact: %w", err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(data)), nil
}

// checksums writes what `sha256sum --check` reads.
func (r *release) checksums() error {
	all, err := r.artifacts()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for _, a := range all {
		fmt.Fprintf(&b, "%s  %s\n", a.Digest["sha256"], a.Name)
	}
	return write(filepath.Join(r.out, "SHA256SUMS"), b.Bytes())
}
