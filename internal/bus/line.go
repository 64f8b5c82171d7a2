package bus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxSilence is how long a line may carry nothing in either direction before it counts as
	// dead, or half of the horizon, if that is less. Pings make sure that a live one carries something.
	maxSilence = 12 * time.Second
	// writeChunk is what has to pass within maxSilence: a link of 16 kbit/s carries it.
	writeChunk = 16 << 10
	// unsentLimit bounds the bytes that wait in the kernel for the network. Bytes that wait in
	// this process instead are dropped together with the connection.
	unsentLimit = 64 << 10
	// waited is how long a write must have taken to show that the line has carried something
	// meanwhile, and not only the buffers of this machine.
	waited = 100 * time.Millisecond
)

// line is one TCP connection to a server. nats.go drops what is in its own buffers when a
// connection is lost; the kernel does not: what was written is sent again and again, for many
// minutes after the socket was closed, and a commit that was given up would arrive after a
// partition. So a lost line is closed by a reset, which discards what the kernel holds.
//
// A line is dead when nothing has passed for a while in either direction. Unanswered pings
// would not tell: on a slow link the reply queues behind a second's worth of jobs.
type line struct {
	*net.TCPConn
	silence time.Duration
	// passed is when bytes were last seen to pass, nanoseconds after began.
	began  time.Time
	passed atomic.Int64
	// polite is set when everything was flushed: the line is then closed in the usual way.
	polite *atomic.Bool

	mu sync.Mutex
	// deadline is the one that the owner set for reads, zero if there is none.
	deadline time.Time
}

// Read implements net.Conn. It fails when the line has been silent for too long.
func (l *line) Read(p []byte) (int, error) {
	for {
		l.mu.Lock()
		deadline, own := l.deadline, false
		if deadline.IsZero() {
			deadline, own = l.began.Add(time.Duration(l.passed.Load())+l.silence), true
		}
		err := l.TCPConn.SetReadDeadline(deadline)
		l.mu.Unlock()
		if err != nil {
			return 0, err
		}
		n, err := l.TCPConn.Read(p)
		switch {
		case n > 0:
			l.pass()
		case own && errors.Is(err, os.ErrDeadlineExceeded):
			if time.Since(l.began)-time.Duration(l.passed.Load()) < l.silence {
				continue // written meanwhile
			}
			err = fmt.Errorf("nothing has come from the server for %v: %w", l.silence, err)
		}
		return n, err
	}
}

// Write implements net.Conn. It goes on as long as the line carries something.
func (l *line) Write(p []byte) (written int, err error) {
	for {
		chunk := p[written:min(written+writeChunk, len(p))]
		begun := time.Now()
		if err := l.TCPConn.SetWriteDeadline(begun.Add(l.silence)); err != nil {
			return written, err
		}
		n, err := l.TCPConn.Write(chunk)
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
		if time.Since(begun) > waited {
			l.pass()
		}
	}
}

func (l *line) pass() { l.passed.Store(int64(time.Since(l.began))) }

// SetDeadline implements net.Conn for reads; writes have a deadline of their own.
func (l *line) SetDeadline(t time.Time) error { return l.SetReadDeadline(t) }

// SetReadDeadline implements net.Conn.
func (l *line) SetReadDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deadline = t
	return l.TCPConn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn; writes have a deadline of their own.
func (l *line) SetWriteDeadline(time.Time) error { return nil }

// Close implements net.Conn.
func (l *line) Close() error {
	if !l.polite.Load() {
		_ = l.TCPConn.SetLinger(0) // fails only on a line that is closed already
	}
	return l.TCPConn.Close()
}

// cut ends the line at once; the owner finds it broken.
func (l *line) cut() {
	_ = l.TCPConn.SetLinger(0) // fails only on a line that is closed already
	_ = l.TCPConn.Close()
}

// dialer makes lines. It implements [nats.CustomDialer].
type dialer struct {
	silence time.Duration
	polite  *atomic.Bool
	// current is the last line that was made.
	current *atomic.Pointer[line]
}

// Dial looks the host up and tries its addresses in random order, so that replicas spread
// over the servers behind one name. All of it is done within dialTimeout: nats.go holds the
// lock of the connection meanwhile.
func (d dialer) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	hosts, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return nil, err
	}
	rand.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	var faults []error
	for i, host := range hosts {
		until, _ := ctx.Deadline()
		one := net.Dialer{Timeout: time.Until(until) / time.Duration(len(hosts)-i)}
		conn, err := one.DialContext(ctx, network, net.JoinHostPort(host, port))
		if err == nil {
			return d.line(conn)
		}
		faults = append(faults, err)
	}
	return nil, errors.Join(faults...)
}

func (d dialer) line(conn net.Conn) (net.Conn, error) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn, nil
	}
	if err := bound(tcp, d.silence); err != nil {
		return nil, fmt.Errorf("set options of the connection: %w", errors.Join(err, tcp.Close()))
	}
	l := &line{TCPConn: tcp, silence: d.silence, began: time.Now(), polite: d.polite}
	d.current.Store(l)
	return l, nil
}
