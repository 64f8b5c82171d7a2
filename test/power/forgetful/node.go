package forgetful

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

const (
	pageSize = 4096
	// syncFlags make every write of a handle a synced one. O_SYNC holds O_DSYNC.
	syncFlags = syscall.O_DSYNC
	// roomy is the size that the disk claims to have, in blocks.
	roomy = 1 << 24
)

func isDir(mode uint32) bool { return mode&syscall.S_IFMT == syscall.S_IFDIR }

// disk is one mounted file system. Its lock guards every node: a sync sees one moment of the
// whole tree.
type disk struct {
	mu      sync.Mutex
	platter *platter
}

// node is a file or a directory in memory. The tree of names is go-fuse's.
type node struct {
	fs.Inode
	disk    *disk
	id      uint64
	mode    uint32
	data    []byte
	changed map[int64]struct{}
	resized bool
	written time.Time
}

var (
	_ fs.NodeOnAdder   = (*node)(nil)
	_ fs.NodeGetattrer = (*node)(nil)
	_ fs.NodeSetattrer = (*node)(nil)
	_ fs.NodeOpener    = (*node)(nil)
	_ fs.NodeReader    = (*node)(nil)
	_ fs.NodeWriter    = (*node)(nil)
	_ fs.NodeFsyncer   = (*node)(nil)
	_ fs.NodeCreater   = (*node)(nil)
	_ fs.NodeMkdirer   = (*node)(nil)
	_ fs.NodeUnlinker  = (*node)(nil)
	_ fs.NodeRmdirer   = (*node)(nil)
	_ fs.NodeRenamer   = (*node)(nil)
	_ fs.NodeStatfser  = (*node)(nil)
)

// handle is an open file.
type handle struct{ synced bool }

// OnAdd builds the tree of what was synced; it is called once for the root.
func (n *node) OnAdd(ctx context.Context) {
	if n.id != rootID {
		return
	}
	n.restore(ctx)
}

func (n *node) restore(ctx context.Context) {
	for name, e := range n.disk.platter.names[n.id] {
		child := &node{disk: n.disk, id: e.ID, mode: e.Mode, written: time.Now()}
		if !isDir(e.Mode) {
			var err error
			if child.data, err = n.disk.platter.bytes(e.ID); err != nil {
				panic(err) // the disk itself is broken: nothing can be tested on it
			}
		}
		n.AddChild(name, n.NewPersistentInode(ctx, child, stable(child)), true)
		if isDir(e.Mode) {
			child.restore(ctx)
		}
	}
}

func stable(n *node) fs.StableAttr { return fs.StableAttr{Mode: n.mode & syscall.S_IFMT, Ino: n.id} }

// Getattr implements [fs.NodeGetattrer].
func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	n.attr(&out.Attr)
	return fs.OK
}

func (n *node) attr(out *fuse.Attr) {
	out.Mode, out.Ino, out.Size, out.Nlink = n.mode, n.id, uint64(len(n.data)), 1
	out.SetTimes(nil, &n.written, nil)
}

// Setattr implements [fs.NodeSetattrer]: a new size, new permissions.
func (n *node) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if size, set := in.GetSize(); set {
		n.resize(int64(size))
	}
	if mode, set := in.GetMode(); set {
		n.mode = n.mode&syscall.S_IFMT | mode&0o7777
	}
	n.attr(&out.Attr)
	return fs.OK
}

func (n *node) resize(size int64) {
	for begin := int64(len(n.data)); begin < size; begin += pageSize {
		n.touch(begin, min(size-begin, pageSize))
	}
	n.data = append(n.data[:min(size, int64(len(n.data)))], make([]byte, max(0, size-int64(len(n.data))))...)
	n.resized, n.written = true, time.Now()
}

func (n *node) touch(begin, length int64) {
	if n.changed == nil {
		n.changed = map[int64]struct{}{}
	}
	for page := begin / pageSize; page <= (begin+length-1)/pageSize; page++ {
		n.changed[page] = struct{}{}
	}
}

// Open implements [fs.NodeOpener]. The kernel keeps no pages: every read and write comes here.
func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return &handle{synced: flags&syncFlags != 0}, fuse.FOPEN_DIRECT_IO, fs.OK
}

// Read implements [fs.NodeReader].
func (n *node) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	size := int64(len(n.data))
	read := copy(dest, n.data[min(off, size):])
	return fuse.ReadResultData(dest[:read]), fs.OK
}

// Write implements [fs.NodeWriter].
func (n *node) Write(_ context.Context, f fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if end := off + int64(len(data)); end > int64(len(n.data)) {
		n.resize(end)
	}
	copy(n.data[off:], data)
	if len(data) > 0 {
		n.touch(off, int64(len(data)))
	}
	n.written = time.Now()
	if h, open := f.(*handle); open && h.synced {
		if errno := n.sync(); errno != fs.OK {
			return 0, errno
		}
	}
	return uint32(len(data)), fs.OK
}

// Fsync implements [fs.NodeFsyncer] for files and directories.
func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	return n.sync()
}

// sync makes a file or a directory durable, and its names up to the root.
func (n *node) sync() syscall.Errno {
	if isDir(n.mode) {
		names := map[string]entry{}
		for name, child := range n.Children() {
			c := child.Operations().(*node)
			names[name] = entry{ID: c.id, Mode: c.mode}
		}
		if err := n.disk.platter.list(n.id, names); err != nil {
			return syscall.EIO
		}
	} else if len(n.changed) > 0 || n.resized {
		if err := n.disk.platter.write(n.id, n.data, n.changed); err != nil {
			return syscall.EIO
		}
		n.changed, n.resized = nil, false
	}
	return n.keepName()
}

func (n *node) keepName() syscall.Errno {
	for at := n; at.id != rootID; {
		name, above := at.Parent()
		if above == nil {
			return fs.OK // it was removed while it was open
		}
		parent := above.Operations().(*node)
		if err := n.disk.platter.link(parent.id, name, entry{ID: at.id, Mode: at.mode}); err != nil {
			return syscall.EIO
		}
		at = parent
	}
	return fs.OK
}
