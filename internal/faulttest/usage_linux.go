package faulttest

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// clockTick is the unit of the times in /proc/<pid>/stat; it is 100 Hz on every Linux
// platform that Go supports.
const clockTick = 10 * time.Millisecond

// dieWithParent makes the kernel kill the child when the test process is gone, whatever
// ended it.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// PeakRSS is the largest resident memory the process ever had, in bytes.
func (p *Process) PeakRSS() int64 { return p.status("VmHWM:") }

// RSS is the resident memory of the process now, in bytes.
func (p *Process) RSS() int64 { return p.status("VmRSS:") }

func (p *Process) status(field string) int64 {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		p.t.Fatalf("read the status of %s: %v", p.name, err)
	}
	for line := range bytes.Lines(b) {
		if rest, found := bytes.CutPrefix(line, []byte(field)); found {
			if f := bytes.Fields(rest); len(f) == 2 { // "12345 kB"
				if kib, err := strconv.ParseInt(string(f[0]), 10, 64); err == nil {
					return kib << 10
				}
			}
		}
	}
	p.t.Fatalf("the status of %s has no %s", p.name, field)
	return 0
}

// Paused reports whether the process stands still.
func (p *Process) Paused() bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		return false
	}
	// The state is the first field after the command in parentheses (proc_pid_stat(5)).
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	return len(fields) > 0 && string(fields[0]) == "T"
}

// CPU is the processor time the process has used so far.
func (p *Process) CPU() time.Duration {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		p.t.Fatalf("read the times of %s: %v", p.name, err)
	}
	// The second field is the command in parentheses and may hold spaces; utime and stime
	// are the 12th and 13th after it (proc_pid_stat(5)).
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 13 {
		p.t.Fatalf("the times of %s: %d fields", p.name, len(fields))
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			p.t.Fatalf("the times of %s: %v", p.name, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick
}
