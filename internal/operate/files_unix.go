//go:build unix

package operate

import "syscall"

// openFiles returns how many files this process may have open; false if that is not known. Go
// has raised the soft limit to the hard one at the start of the process (package os).
func openFiles() (uint64, bool) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, false
	}
	return uint64(limit.Cur), true //nolint:unconvert // it is signed on FreeBSD
}
