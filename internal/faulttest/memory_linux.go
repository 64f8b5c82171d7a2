package faulttest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Where Linux mounts the controllers of memory: version 1 has a tree for each controller, version
// 2 one for all.
const (
	memoryV1 = "/sys/fs/cgroup/memory"
	memoryV2 = "/sys/fs/cgroup"
)

// MemoryGroup holds processes under a limit of memory, as a container does.
type MemoryGroup struct {
	t    testing.TB
	path string
}

// LimitMemory makes a group with a limit in bytes, swap included, and removes it after the test.
// ok is false where that takes rights or a controller that are not there: the caller must say so
// aloud.
func LimitMemory(t testing.TB, limit int64) (group *MemoryGroup, ok bool) {
	t.Helper()
	for root, files := range map[string][]string{
		memoryV1: {"memory.limit_in_bytes", "memory.memsw.limit_in_bytes"},
		memoryV2: {"memory.max"},
	} {
		path := filepath.Join(root, fmt.Sprintf("faulttest-%d-%s", os.Getpid(), filepath.Base(t.TempDir())+sanitized(t.Name())))
		if os.Mkdir(path, 0o755) != nil {
			continue
		}
		g := &MemoryGroup{t: t, path: path}
		if g.set(files, limit) != nil {
			_ = os.Remove(path)
			continue
		}
		t.Cleanup(g.remove)
		return g, true
	}
	return nil, false
}

func sanitized(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '/' || r == ' ' || r == ',' {
			return '-'
		}
		return r
	}, name)
}

// set writes the limit. A kernel without accounts of swap lacks the second file of version 1.
func (g *MemoryGroup) set(files []string, limit int64) error {
	for i, file := range files {
		err := os.WriteFile(filepath.Join(g.path, file), []byte(strconv.FormatInt(limit, 10)), 0o644)
		if err != nil && (i == 0 || !errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	return nil
}

// Program is a program that runs another one inside the group from its first instruction.
func (g *MemoryGroup) Program(path string) string {
	g.t.Helper()
	script := filepath.Join(g.t.TempDir(), filepath.Base(path))
	text := fmt.Sprintf("#!/bin/sh\necho $$ > '%s/cgroup.procs' && exec '%s' \"$@\"\n", g.path, path)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		g.t.Fatalf("write a script: %v", err)
	}
	return script
}

// remove takes the group away once its processes are gone, which the kernel may notice a little
// later than their parent does.
func (g *MemoryGroup) remove() {
	deadline := time.Now().Add(startLimit)
	for {
		err := os.Remove(g.path)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return
		}
		if time.Now().After(deadline) {
			procs, _ := os.ReadFile(filepath.Join(g.path, "cgroup.procs"))
			g.t.Logf("%s stays behind: %v, processes %q", g.path, err, procs)
			return
		}
		<-time.After(pollEvery)
	}
}
