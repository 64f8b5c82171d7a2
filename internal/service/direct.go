package service

import (
	"context"
	"io"
	"net"
	"sync/atomic"
)

// direct is a connection without TLS, on which a long body goes out as it stands in memory, in one write with
// the headers before it. net/http hands what does not fit into its buffer to the connection's ReadFrom
// (persistConnWriter in its transport.go), which is meant for files: of a body in memory it makes copies of
// 32 KiB each, a seventh of a worker's time where jobs have 16 KiB.
type direct struct {
	*net.TCPConn

	// held is the beginning of a request whose body is still to come. It is kept for that body while holds is set.
	held  []byte
	holds bool
	// left is set when a byte of the request has left. net/http asks what Write returned, and takes what is
	// held for sent.
	left atomic.Bool
}

// begin prepares for the next request.
func (c *direct) begin(body int) {
	c.left.Store(false)
	c.expect(body)
}

// expect prepares for a request with a body of so many bytes. One that does not fit into net/http's buffer comes
// by ReadFrom in any case; of others nothing may be held.
func (c *direct) expect(body int) { c.held, c.holds = c.held[:0], body > writeBuffer }

// Write implements [net.Conn].
func (c *direct) Write(b []byte) (int, error) {
	if !c.holds {
		n, err := c.TCPConn.Write(b)
		c.note(n)
		return n, err
	}
	c.held = append(c.held, b...)
	return len(b), nil
}

// ReadFrom implements [io.ReaderFrom]. A request limits its body to the rest of its length, which is
// all that is left of a body of ours.
func (c *direct) ReadFrom(r io.Reader) (int64, error) {
	if limited, ok := r.(*io.LimitedReader); ok {
		if body, ok := limited.R.(io.WriterTo); ok {
			n, err := body.WriteTo(joining{c})
			limited.N -= n
			return n, err
		}
	}
	if _, err := (joining{c}).Write(nil); err != nil {
		return 0, err
	}
	n, err := c.TCPConn.ReadFrom(r)
	c.note(int(n))
	return n, err
}

func (c *direct) note(written int) {
	if written > 0 {
		c.left.Store(true)
	}
}

// joining writes what is held, and what it is given behind that.
type joining struct{ *direct }

// Write implements [io.Writer].
func (j joining) Write(b []byte) (int, error) {
	parts := net.Buffers{j.held, b}
	n, err := parts.WriteTo(j.TCPConn)
	j.note(int(n))
	n = max(n-int64(len(j.held)), 0)
	j.expect(0)
	return int(n), err
}

// dialPlain connects without TLS.
func (d *dialer) dialPlain(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.DialContext(ctx, network, address)
	if tcp, ok := conn.(*net.TCPConn); ok {
		return &direct{TCPConn: tcp}, nil
	}
	return conn, err
}
