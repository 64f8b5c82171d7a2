package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// member is a file of an archive.
type member struct {
	name string
	data []byte
	mode int64
}

// archive packs members in their order, without anything that differs from one builder to the
// next: owners, times, names.
func archive(members []member, at time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Mode: m.mode, Size: int64(len(m.data)), ModTime: at, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		if strings.HasSuffix(m.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("pack %s: %w", m.name, err)
		}
		if _, err := w.Write(m.data); err != nil {
			return nil, fmt.Errorf("pack %s: %w", m.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("finish an archive: %w", err)
	}
	return b.Bytes(), nil
}

// zipped writes a .tar.gz.
func zipped(file string, members []member, at time.Time) error {
	raw, err := archive(members, at)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return fmt.Errorf("compress %s: %w", filepath.Base(file), err)
	}
	_, failed := w.Write(raw)
	if err := errors.Join(failed, w.Close()); err != nil {
		return fmt.Errorf("compress %s: %w", filepath.Base(file), err)
	}
	return write(file, b.Bytes())
}

func write(file string, data []byte) error {
	if err := os.WriteFile(file, data, 0o644); err != nil {
		return fmt.Errorf("write an artifact: %w", err)
	}
	return nil
}

// pack makes the archive of one platform.
func (r *release) pack(t target, worker string) error {
	dir := filepath.Base(r.artifact(t, ""))
	members := []member{{name: dir + "/", mode: 0o755}}
	for _, f := range []struct {
		path, name string
		mode       int64
	}{
		{worker, "worker", 0o755},
		{filepath.Join(r.root, "LICENSE"), "LICENSE", 0o644},
		{filepath.Join(r.root, "CHANGELOG.md"), "CHANGELOG.md", 0o644},
	} {
		data, err := os.ReadFile(f.path)
		if err != nil {
			return fmt.Errorf("pack %s: %w", t, err)
		}
		members = append(members, member{name: path.Join(dir, f.name), data: data, mode: f.mode})
	}
	return zipped(r.artifact(t, ".tar.gz"), members, r.time)
}

// The two lines of Chart.yaml that a release sets.
var (
	chartVersion = regexp.MustCompile(`(?m)^version: .*$`)
	appVersion   = regexp.MustCompile(`(?m)^appVersion: .*$`)
)

// chart packs the Helm chart as `helm package --version --app-version` does.
func (r *release) chart() error {
	version := strings.TrimPrefix(r.version, "v")
	if !semantic.MatchString(r.version) { // a build between two releases
		version = "0.0.0-" + strings.ReplaceAll(version, ".", "-")
	}
	dir := filepath.Join(r.root, "deploy", "helm", "rollcall")
	var members []member
	err := filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		if name == "Chart.yaml" {
			data = chartVersion.ReplaceAll(data, []byte("version: "+version))
			data = appVersion.ReplaceAll(data, []byte(`appVersion: "`+r.version+`"`))
		}
		members = append(members, member{name: path.Join("rollcall", filepath.ToSlash(name)), data: data, mode: 0o644})
		return nil
	})
	if err != nil {
		return fmt.Errorf("pack the chart: %w", err)
	}
	return zipped(filepath.Join(r.out, "rollcall-"+version+".tgz"), members, r.time)
}

// semantic is a version of https://semver.org with a v before it.
var semantic = regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)
