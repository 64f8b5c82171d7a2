package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

const (
	version  = "v1.2.3"
	revision = "0123456789abcdef0123456789abcdef01234567"
	epoch    = "1790000000"
	// tried is enough to see both kinds of platform, and builds in half the time.
	tried = "linux_" + runtime.GOARCH + ",darwin_arm64"
)

// sourceCopy is the repository in another directory, without its history.
func sourceCopy(t *testing.T) string {
	t.Helper()
	list := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = "../.."
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		data, err := os.ReadFile(filepath.Join("../..", name))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func makeRelease(t *testing.T, root string) (out string) {
	t.Helper()
	out = filepath.Join(t.TempDir(), "dist")
	err := run(t.Context(), []string{"-root", root, "-out", out, "-version", version, "-revision", revision, "-platforms", tried})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// read returns an artifact of the release.
func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// unpack returns the files of a .tar.gz.
func unpack(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheSameCommitGivesTheSameBytes(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", epoch)
	out := makeRelease(t, "../..")
	// Somebody else's environment and directory.
	t.Setenv("GOFLAGS", "-buildvcs=true")
	t.Setenv("GOAMD64", "v3")
	t.Setenv("TZ", "Asia/Tokyo")
	again := makeRelease(t, sourceCopy(t))
	if a, b := string(read(t, out, "SHA256SUMS")), string(read(t, again, "SHA256SUMS")); a != b {
		t.Errorf("two builds of one commit differ:\n%s\n%s", a, b)
	}
	t.Run("checksums", func(t *testing.T) {
		check := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "SHA256SUMS")
		check.Dir = out
		if text, err := check.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
		entries, err := os.ReadDir(out)
		if err != nil {
			t.Fatal(err)
		}
		// For each of two platforms an archive and its SBOM, one image, chart, provenance.
		if lines := bytes.Count(read(t, out, "SHA256SUMS"), []byte("\n")); lines != len(entries)-1 || lines != 7 {
			t.Errorf("%d checksums of %d artifacts, want 7", lines, len(entries)-1)
		}
	})
	t.Run("binary", func(t *testing.T) { testBinary(t, out) })
	t.Run("image", func(t *testing.T) { testImage(t, out) })
	t.Run("sbom", func(t *testing.T) { testSBOM(t, out) })
	t.Run("chart", func(t *testing.T) { testChart(t, out) })
	t.Run("provenance", func(t *testing.T) { testProvenance(t, out) })
}

func testBinary(t *testing.T, out string) {
	name := "rollcall_" + version + "_linux_" + runtime.GOARCH
	files := unpack(t, read(t, out, name+".tar.gz"))
	worker := files[name+"/worker"]
	if worker == nil || files[name+"/LICENSE"] == nil {
		t.Fatal("the archive lacks the worker or the license")
	}
	here, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(worker, []byte(here)) {
		t.Errorf("the worker tells the path of the builder, %s", here)
	}
	program := filepath.Join(t.TempDir(), "worker")
	if err := os.WriteFile(program, worker, 0o755); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "linux" {
		return
	}
	text, err := exec.CommandContext(t.Context(), program, "version").CombinedOutput()
	if err != nil || !bytes.Contains(text, []byte(version)) || !bytes.Contains(text, []byte(revision)) {
		t.Errorf("worker version: %v\n%s", err, text)
	}
}

func testImage(t *testing.T, out string) {
	file := filepath.Join(out, "rollcall_"+version+"_linux_"+runtime.GOARCH+".image.tar")
	image, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(image); err != nil {
		t.Error(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != nobody || !slices.Equal(config.Config.Entrypoint, []string{"/worker"}) || config.Architecture != runtime.GOARCH {
		t.Errorf("the image runs %q as %q on %s", config.Config.Entrypoint, config.Config.User, config.Architecture)
	}
	// The same as the image of the Dockerfile, where nothing comes from its base.
	dockerfile := string(read(t, "../..", "Dockerfile"))
	for _, line := range []string{"USER " + nobody, `ENTRYPOINT ["/worker"]`, `CMD ["run"]`, "ENV " + config.Config.Env[0], "EXPOSE 8080"} {
		if !strings.Contains(dockerfile, line) {
			t.Errorf("Dockerfile lacks %s, which the image of a release has", line)
		}
	}
	if roots := bytes.Count(certificates(), []byte("BEGIN CERTIFICATE")); roots < 50 {
		t.Errorf("%d root certificates", roots)
	}
}

func testSBOM(t *testing.T, out string) {
	var bom struct {
		BOMFormat  string `json:"bomFormat"`
		Components []struct{ Name, Version, Purl string }
	}
	if err := json.Unmarshal(read(t, out, "rollcall_"+version+"_darwin_arm64.cdx.json"), &bom); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, c := range bom.Components {
		names[c.Name] = true
		if !strings.Contains(c.Purl, "goos=darwin") {
			t.Errorf("%s is listed as %s, want one of darwin", c.Name, c.Purl)
		}
	}
	for _, want := range []string{"std", "github.com/nats-io/nats.go", "github.com/failsafe-go/failsafe-go"} {
		if !names[want] {
			t.Errorf("the bill of materials lacks %s", want)
		}
	}
	if bom.BOMFormat != "CycloneDX" {
		t.Errorf("format %q", bom.BOMFormat)
	}
}

func testChart(t *testing.T, out string) {
	files := unpack(t, read(t, out, "rollcall-1.2.3.tgz"))
	text := string(files["rollcall/Chart.yaml"])
	for _, want := range []string{"\nversion: 1.2.3\n", "\nappVersion: \"v1.2.3\"\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("Chart.yaml lacks %q:\n%s", want, text)
		}
	}
	if files["rollcall/values.yaml"] == nil || files["rollcall/templates/deployment.yaml"] == nil {
		t.Error("the chart lacks its values or templates")
	}
}

func testProvenance(t *testing.T, out string) {
	var s statement
	if err := json.Unmarshal(read(t, out, "rollcall_"+version+".provenance.json"), &s); err != nil {
		t.Fatal(err)
	}
	if s.Type != statementType || s.PredicateType != predicateType || len(s.Subject) != 6 {
		t.Errorf("%s about %d artifacts by %s, want 6", s.Type, len(s.Subject), s.PredicateType)
	}
	sums := string(read(t, out, "SHA256SUMS"))
	for _, subject := range s.Subject {
		if !strings.Contains(sums, subject.Digest["sha256"]+"  "+subject.Name+"\n") {
			t.Errorf("the digest of %s is not that of SHA256SUMS", subject.Name)
		}
	}
}

func TestAnOldArtifactIsNotReleasedAgain(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", epoch)
	out := t.TempDir()
	if err := os.WriteFile(filepath.Join(out, "rollcall_v1.0.0_linux_amd64.tar.gz"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := run(t.Context(), []string{"-root", "../..", "-out", out, "-version", version, "-revision", revision})
	if err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("got %v, want a refusal", err)
	}
}

func TestPlatformsAreReadOrRefused(t *testing.T) {
	t.Parallel()
	if got, err := parseTargets(platforms); err != nil || len(got) != 4 {
		t.Errorf("%d of the four platforms: %v", len(got), err)
	}
	if _, err := parseTargets("linux"); err == nil {
		t.Error("a platform without an architecture was taken")
	}
}
