package service

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync/atomic"
)

// direct is a connection, or what lies below one with TLS. Without TLS a long body goes out as it stands in
// memory, in one write with the headers before it. net/http hands what does not fit into its buffer to the connection's ReadFrom
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
	// wasReset is set when the peer has reset the connection.
	wasReset atomic.Bool
	// shared is set below HTTP/2: requests are not told apart there.
	shared bool
}

// directOf returns what one request at a time uses below a connection of HTTP/1, nil for others.
func directOf(conn net.Conn) *direct {
	c, plain := conn.(*direct)
	if over, ok := conn.(*tls.Conn); ok {
		c, plain = over.NetConn().(*direct)
	}
	if !plain || c.shared {
		return nil
	}
	return c
}

// expect prepares for a request with a body of so many bytes. One that does not fit into net/http's buffer comes
// by ReadFrom in any case; of others nothing may be held.
func (c *direct) expect(body int) { c.held, c.holds = c.held[:0], body > writeBuffer }

// Write implements [net.Conn].
func (c *direct) Write(b []byte) (int, error) {
	if !c.holds {
		n, err := c.TCPConn.Write(b)
		return n, c.note(n, err)
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
	return n, c.note(int(n), err)
}

// Read implements [net.Conn].
func (c *direct) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	return n, c.note(0, err)
}

// note keeps what became of a write or read, and returns its error.
func (c *direct) note(written int, err error) error {
	if written > 0 {
		c.left.Store(true)
	}
	if err != nil && isReset(err) {
		c.wasReset.Store(true)
	}
	return err
}

// joining writes what is held, and what it is given behind that.
type joining struct{ *direct }

// Write implements [io.Writer].
func (j joining) Write(b []byte) (int, error) {
	parts := net.Buffers{j.held, b}
	n, err := parts.WriteTo(j.TCPConn)
	err = j.note(int(n), err)
	n = max(n-int64(len(j.held)), 0)
	j.expect(0)
	return int(n), err
}

// dialDirect connects. TLS may come on top of that.
func (d *dialer) dialDirect(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.DialContext(ctx, network, address)
	if tcp, ok := conn.(*net.TCPConn); ok {
		return &direct{TCPConn: tcp}, nil
	}
	return conn, err
}
