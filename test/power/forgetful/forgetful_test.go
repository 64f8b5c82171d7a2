package forgetful_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"rollcall/test/power/forgetful"
)

// machine is a disk in this process. Its power is cut by unmounting it behind its back: what it
// has in memory is thrown away.
type machine struct {
	t              *testing.T
	platter, point string
}

func boot(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, platter: t.TempDir(), point: t.TempDir()}
	m.mount()
	t.Cleanup(func() { m.unmount() })
	return m
}

func (m *machine) mount() {
	m.t.Helper()
	if _, err := forgetful.Mount(m.platter, m.point); err != nil {
		m.t.Skipf("NOT TESTED: a FUSE mount needs /dev/fuse, and root or fusermount3: %v", err)
	}
}

func (m *machine) unmount() {
	m.t.Helper()
	if err := syscall.Unmount(m.point, 0); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) cut() {
	m.t.Helper()
	m.unmount()
	m.mount()
}

func (m *machine) path(name string) string { return filepath.Join(m.point, name) }

func (m *machine) write(name, text string, flags int, sync bool) {
	m.t.Helper()
	f, err := os.OpenFile(m.path(name), os.O_WRONLY|flags, 0o600)
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		m.t.Fatal(err)
	}
	if sync {
		if err := f.Sync(); err != nil {
			m.t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) syncDir(name string) {
	m.t.Helper()
	d, err := os.Open(m.path(name))
	if err != nil {
		m.t.Fatal(err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) mkdir(name string) {
	m.t.Helper()
	if err := os.Mkdir(m.path(name), 0o700); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) rename(from, to string) {
	m.t.Helper()
	if err := os.Rename(m.path(from), m.path(to)); err != nil {
		m.t.Fatal(err)
	}
}

// want compares a file with what it should hold; "-" means that it should not exist.
func (m *machine) want(name, text string) {
	m.t.Helper()
	got, err := os.ReadFile(m.path(name))
	switch {
	case text == "-" && !errors.Is(err, fs.ErrNotExist):
		m.t.Errorf("%s holds %q (%v), want no such file", name, got, err)
	case text != "-" && (err != nil || string(got) != text):
		m.t.Errorf("%s holds %q (%v), want %q", name, got, err, text)
	}
}

const create = os.O_CREATE | os.O_TRUNC

func TestWhatWasNotSyncedIsGone(t *testing.T) {
	t.Parallel()
	m := boot(t)
	m.write("kept", "synced", create, true)
	m.write("kept", "+lost", os.O_APPEND, false)
	m.write("never", "lost", create, false)
	m.want("kept", "synced+lost")
	m.want("never", "lost")
	m.cut()
	m.want("kept", "synced")
	m.want("never", "-")
}

func TestASyncedWriteSurvivesByItself(t *testing.T) {
	t.Parallel()
	for name, flag := range map[string]int{"O_SYNC": syscall.O_SYNC, "O_DSYNC": syscall.O_DSYNC} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := boot(t)
			m.write("log", "one ", create|flag, false)
			m.write("log", "two", os.O_APPEND|flag, false)
			m.cut()
			m.want("log", "one two")
		})
	}
}

func TestASyncedFileKeepsItsDirectories(t *testing.T) {
	t.Parallel()
	m := boot(t)
	m.mkdir("a")
	m.mkdir("a/b")
	m.write("a/b/c", "deep", create, true)
	m.mkdir("a/gone")
	m.cut()
	m.want("a/b/c", "deep")
	m.want("a/gone", "-")
}

func TestARenameWaitsForItsDirectory(t *testing.T) {
	t.Parallel()
	m := boot(t)
	m.write("state", "old", create, true)
	m.write("state.tmp", "new", create, true)
	m.rename("state.tmp", "state")
	m.want("state", "new")
	m.cut()
	m.want("state", "old")
	m.rename("state.tmp", "state")
	m.syncDir(".")
	m.cut()
	m.want("state", "new")
	m.want("state.tmp", "-")
}

func TestAMoveToAnotherDirectoryIsOneStep(t *testing.T) {
	t.Parallel()
	m := boot(t)
	m.mkdir("from")
	m.mkdir("to")
	m.write("from/x", "moved", create, true)
	m.syncDir("to")
	m.rename("from/x", "to/x")
	m.syncDir("to")
	m.cut()
	m.want("from/x", "-")
	m.want("to/x", "moved")
}

func TestARemovalWaitsForItsDirectory(t *testing.T) {
	t.Parallel()
	m := boot(t)
	m.write("x", "back", create, true)
	if err := os.Remove(m.path("x")); err != nil {
		t.Fatal(err)
	}
	m.want("x", "-")
	m.cut()
	m.want("x", "back")
	if err := os.Remove(m.path("x")); err != nil {
		t.Fatal(err)
	}
	m.syncDir(".")
	m.cut()
	m.want("x", "-")
	// Its number may be given out again, and then holds nothing of the old file.
	m.write("y", "", create, true)
	m.cut()
	m.want("y", "")
}

func TestSizesAreDurableOnlyOnceTheyAreSynced(t *testing.T) {
	t.Parallel()
	m := boot(t)
	long := make([]byte, 10_000)
	for i := range long {
		long[i] = byte('a' + i%26)
	}
	m.write("x", string(long), create, true)
	if err := os.Truncate(m.path("x"), 5); err != nil {
		t.Fatal(err)
	}
	m.want("x", "abcde")
	m.cut()
	m.want("x", string(long))
	if err := os.Truncate(m.path("x"), 5); err != nil {
		t.Fatal(err)
	}
	m.write("x", "!", os.O_APPEND, true)
	m.cut()
	m.want("x", "abcde!")
	if err := os.Truncate(m.path("x"), 5000); err != nil {
		t.Fatal(err)
	}
	m.write("x", "", os.O_APPEND, true)
	m.cut()
	m.want("x", "abcde!"+string(make([]byte, 4994)))
}
