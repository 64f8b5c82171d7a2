//go:build linux

package power_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"rollcall/internal/faulttest"
	"rollcall/test/power/forgetful"
)

// roleDisk is the part of a child that serves a forgetful file system.
const roleDisk = "disk"

// disk is a forgetful file system in a child process, mounted for the test.
type disk struct {
	// Point is where it is mounted.
	Point   string
	t       testing.TB
	platter string
	process *faulttest.Process
}

// newDisk mounts an empty disk, or skips the test loudly where that is not possible.
func newDisk(t testing.TB) *disk {
	t.Helper()
	d := &disk{t: t, Point: t.TempDir(), platter: t.TempDir()}
	d.mount()
	t.Cleanup(d.cut)
	return d
}

func (d *disk) mount() {
	d.t.Helper()
	d.process = faulttest.Start(d.t, "disk", faulttest.Again(roleDisk, []string{"PATH=/usr/bin:/bin"}, d.platter, d.Point))
	faulttest.Until(d.t, patience, "the disk is mounted", func() bool {
		if !d.process.Running() {
			d.t.Skipf("NOT TESTED: power loss needs /dev/fuse, and root or fusermount3:\n%s", d.process.Log())
		}
		return strings.Contains(d.process.Log(), forgetful.Ready)
	})
}

// cut takes the power: what was not synced is gone. Whoever uses the disk must be dead.
func (d *disk) cut() {
	d.t.Helper()
	d.process.Kill()
	if err := syscall.Unmount(d.Point, syscall.MNT_DETACH); err != nil {
		d.t.Errorf("unmount %s: %v", d.Point, err)
	}
}

// sync writes everything down, as a kernel does from time to time.
func (d *disk) sync() {
	d.t.Helper()
	before := strings.Count(d.process.Log(), "synced")
	d.process.Signal(syscall.SIGUSR1)
	faulttest.Until(d.t, patience, "the disk is synced", func() bool {
		return strings.Count(d.process.Log(), "synced") > before
	})
}

// patience is how long a scenario waits for what must happen; only a failing one waits that long.
const patience = 2 * time.Minute
