package bus

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// bound makes the kernel give a connection up whose peer confirms nothing for as long as
// silence (TCP_USER_TIMEOUT, RFC 5482), and hold little that it could not send yet.
func bound(conn *net.TCPConn, silence time.Duration) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var refused error
	err = raw.Control(func(fd uintptr) {
		refused = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silence.Milliseconds()))
		if refused == nil {
			refused = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentLimit)
		}
	})
	if err != nil {
		return err
	}
	return refused
}
