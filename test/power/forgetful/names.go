package forgetful

import (
	"context"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Create implements [fs.NodeCreater].
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	inode, errno := n.add(ctx, mode&0o7777|syscall.S_IFREG, out)
	return inode, &handle{synced: flags&syncFlags != 0}, fuse.FOPEN_DIRECT_IO, errno
}

// Mkdir implements [fs.NodeMkdirer].
func (n *node) Mkdir(ctx context.Context, _ string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return n.add(ctx, mode&0o7777|syscall.S_IFDIR, out)
}

func (n *node) add(ctx context.Context, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	child := &node{disk: n.disk, id: n.disk.platter.number(), mode: mode, written: time.Now()}
	if err := n.disk.platter.fresh(child.id); err != nil {
		return nil, syscall.EIO
	}
	child.attr(&out.Attr)
	return n.NewPersistentInode(ctx, child, stable(child)), fs.OK
}

// Unlink implements [fs.NodeUnlinker]: go-fuse takes the name out of the tree.
func (n *node) Unlink(context.Context, string) syscall.Errno { return fs.OK }

// Rmdir implements [fs.NodeRmdirer].
func (n *node) Rmdir(_ context.Context, name string) syscall.Errno {
	if child := n.GetChild(name); child != nil && len(child.Children()) > 0 {
		return syscall.ENOTEMPTY
	}
	return fs.OK
}

// Rename implements [fs.NodeRenamer]: go-fuse moves the name. An exchange of two names is not
// needed by what runs here.
func (n *node) Rename(_ context.Context, _ string, newParent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	if flags != 0 {
		return syscall.EINVAL
	}
	if there := newParent.EmbeddedInode().GetChild(newName); there != nil && len(there.Children()) > 0 {
		return syscall.ENOTEMPTY
	}
	return fs.OK
}

// Statfs implements [fs.NodeStatfser]: a disk with plenty of room.
func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	out.Bsize, out.Frsize, out.NameLen = pageSize, pageSize, 255
	out.Blocks, out.Bfree, out.Bavail = roomy, roomy, roomy
	return fs.OK
}
