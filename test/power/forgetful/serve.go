package forgetful

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Ready is the line that [Serve] prints once the file system is mounted.
const Ready = "mounted"

// Serve mounts a file system and serves it until SIGTERM unmounts it. SIGUSR1 writes everything
// down and prints a line. It is the main function of the process whose death is the power cut.
func Serve(platter, point string, out io.Writer) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGUSR1)
	defer signal.Stop(signals)
	mounted, err := Mount(platter, point)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, Ready)
	for sig := range signals {
		if sig == syscall.SIGTERM {
			return mounted.Unmount()
		}
		if err := mounted.Sync(); err != nil {
			return err
		}
		fmt.Fprintln(out, "synced")
	}
	return nil
}
