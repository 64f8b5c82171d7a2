//go:build !linux

package bus

import (
	"net"
	"time"
)

// bound does nothing: the options are Linux's own. The reset at the end of a lost line does
// not depend on them.
func bound(*net.TCPConn, time.Duration) error { return nil }
