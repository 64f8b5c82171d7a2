package main

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// nobody is the user of the image, as in Dockerfile.
const nobody = "65532:65532"

// image makes a file for `docker load` without an engine and without a base image, so that nothing
// in it comes from anywhere but this repository and the modules of go.sum: the worker, the root
// certificates of Mozilla, a user, and a directory for temporary files.
func (r *release) image(t target, worker string) error {
	files, err := r.layer(worker)
	if err != nil {
		return err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files)), nil })
	if err != nil {
		return fmt.Errorf("make the layer of %s: %w", t, err)
	}
	image, err := mutate.Append(empty.Image, mutate.Addendum{
		Layer: layer, History: v1.History{Created: v1.Time{Time: r.time}, CreatedBy: "deploy/release"},
	})
	if err != nil {
		return fmt.Errorf("make the image of %s: %w", t, err)
	}
	image, err = mutate.ConfigFile(image, r.config(t, image))
	if err != nil {
		return fmt.Errorf("make the image of %s: %w", t, err)
	}
	tag, err := name.NewTag("rollcall:" + r.version)
	if err != nil {
		return fmt.Errorf("name the image of %s: %w", t, err)
	}
	if err := tarball.WriteToFile(r.artifact(t, ".image.tar"), tag, image); err != nil {
		return fmt.Errorf("write the image of %s: %w", t, err)
	}
	return nil
}

func (r *release) config(t target, image v1.Image) *v1.ConfigFile {
	config, err := image.ConfigFile()
	if err != nil {
		panic(err) // it was made in memory a moment ago
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = t.os, t.arch, v1.Time{Time: r.time}
	config.Config = v1.Config{
		User:       nobody,
		Entrypoint: []string{"/worker"},
		Cmd:        []string{"run"},
		// On loopback, the default, neither a kubelet nor Prometheus could reach it.
		Env:          []string{"ROLLCALL_HTTP_ADDR=:8080"},
		ExposedPorts: map[string]struct{}{"8080/tcp": {}},
		Labels: map[string]string{
			"org.opencontainers.image.title":       "rollcall",
			"org.opencontainers.image.description": "A worker pool on NATS: jobs in, batches to microservices, one committed event out",
			"org.opencontainers.image.licenses":    "Apache-2.0",
			"org.opencontainers.image.version":     r.version,
			"org.opencontainers.image.revision":    r.revision,
		},
	}
	return config
}

// layer is the file system of the image.
func (r *release) layer(worker string) ([]byte, error) {
	binary, err := os.ReadFile(worker)
	if err != nil {
		return nil, fmt.Errorf("read the worker: %w", err)
	}
	const dir, file = 0o755, 0o644
	return archive([]member{
		{name: "etc/", mode: dir},
		{name: "etc/group", mode: file, data: []byte("nonroot:x:65532:\n")},
		{name: "etc/passwd", mode: file, data: []byte("nonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n")},
		{name: "etc/ssl/", mode: dir},
		{name: "etc/ssl/certs/", mode: dir},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: file, data: certificates()},
		{name: "tmp/", mode: 0o1777},
		{name: "worker", mode: dir, data: binary},
	}, r.time)
}

// certificates are Mozilla's roots, but for those that are good for some names only: a file of
// certificates cannot say so.
func certificates() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a buffer takes everything
		}
	}
	return b.Bytes()
}
