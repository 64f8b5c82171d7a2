//go:build !linux

package proc

import (
	"errors"
	"fmt"
	"os/exec"
	"time"
)

var errLinuxOnly = fmt.Errorf("accounting for a running process needs Linux: %w", errors.ErrUnsupported)

func dieWithParent(*exec.Cmd) {}

func cpuTime(int) (time.Duration, error) { return 0, errLinuxOnly }

func peakRSS(int) (int64, error) { return 0, errLinuxOnly }
