package service_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"rollcall/internal/service"
)

// TestACallIsSentInOnePiece guards what net/http does only for bodies that it knows to be in
// memory, and the connection for long ones: headers and body in one write. For others it flushes the
// headers first, then copies the body through a buffer that it allocates for each request: a fifth of
// the processor time of a batch of one. The kernel reports how many pieces came.
func TestACallIsSentInOnePiece(t *testing.T) {
	t.Parallel()
	pieces := make(chan uint32, 1)
	var sent atomic.Int64
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			t.Error(err)
		}
		sent.Store(n)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		pieces <- segments(t, conn)
		_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
	})
	s := newService(t, url, config(), service.Deps{})
	for _, length := range []int{1, 3_000, 4_097, 28_000} {
		c := call(96)
		c.Body = bytes.Repeat([]byte("x"), length)
		if r := s.Call(t.Context(), c); r.Failure != nil {
			t.Fatal(r.Failure)
		}
		if n := <-pieces; n != 1 {
			t.Errorf("a call of %d bytes came in %d pieces", length, n)
		}
		if n := sent.Load(); n != int64(length) {
			t.Errorf("of %d bytes %d arrived", length, n)
		}
	}
}

// segments counts the pieces of data that have arrived on a connection. Over the loopback
// interface each write arrives as one, up to half the window, which begins at 64 KiB.
func segments(t *testing.T, conn net.Conn) uint32 {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	var infoErr error
	if err := raw.Control(func(fd uintptr) { info, infoErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); err != nil || infoErr != nil {
		t.Fatal(err, infoErr)
	}
	return info.Data_segs_in
}
