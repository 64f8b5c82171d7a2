package forgetful

import (
	"fmt"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Mounted is a file system at its mount point.
type Mounted struct {
	server *fuse.Server
	root   *node
}

// Mount shows what the directory platter holds at the directory point. Root mounts by itself,
// everybody else needs fusermount3 (Debian's package fuse3).
func Mount(platter, point string) (*Mounted, error) {
	p, err := openPlatter(platter)
	if err != nil {
		return nil, err
	}
	root := &node{disk: &disk{platter: p}, id: rootID, mode: fuse.S_IFDIR | 0o700, written: time.Now()}
	// Nobody else changes this tree, so the kernel may cache its attributes and entries.
	lasts := time.Minute
	server, err := fs.Mount(point, root, &fs.Options{
		EntryTimeout: &lasts, AttrTimeout: &lasts,
		RootStableAttr: &fs.StableAttr{Ino: rootID},
		MountOptions:   fuse.MountOptions{FsName: "forgetful", Name: "forgetful", DirectMount: true, MaxWrite: 1 << 20},
	})
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", point, err)
	}
	return &Mounted{server: server, root: root}, nil
}

// Wait returns when the file system is unmounted.
func (m *Mounted) Wait() { m.server.Wait() }

// Unmount ends it as a clean shutdown of a machine would: everything is synced first.
func (m *Mounted) Unmount() error {
	if err := m.Sync(); err != nil {
		return err
	}
	if err := m.server.Unmount(); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	return nil
}

// Sync writes everything down, as sync(2) does, and as a kernel does from time to time.
func (m *Mounted) Sync() error {
	m.root.disk.mu.Lock()
	defer m.root.disk.mu.Unlock()
	return m.root.syncAll()
}

func (n *node) syncAll() error {
	for _, child := range n.Children() {
		if err := child.Operations().(*node).syncAll(); err != nil {
			return err
		}
	}
	if errno := n.sync(); errno != fs.OK {
		return fmt.Errorf("sync file %d: %w", n.id, errno)
	}
	return nil
}
