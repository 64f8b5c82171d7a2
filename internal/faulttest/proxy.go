package faulttest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Direction is a way through a [Proxy].
type Direction int

// Up is from the client to the target, Down is back.
const (
	Up Direction = iota
	Down
)

// pending is how many chunks a direction holds back before the proxy stops reading: at
// 16 KiB each that is 4 MiB, after which the sender meets full socket buffers, as it would
// when packets are lost.
const (
	pending   = 256
	chunkSize = 16 << 10
)

// Proxy is a TCP proxy between two loopback addresses that misbehaves on demand. All
// methods may be called at any time from any goroutine.
type Proxy struct {
	target   string
	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex
	latency time.Duration
	// rate is how many bytes a second pass in each direction; 0 = any number.
	rate int
	// open holds one channel per direction: closed while bytes may pass.
	open   [2]chan struct{}
	refuse bool
	links  map[*link]struct{}
}

// link is one client's connection and the one made for it to the target.
type link struct {
	client, server *net.TCPConn
	once           sync.Once
	gone           chan struct{}
}

type chunk struct {
	due  time.Time
	data []byte
	// end means that the sender closed its side.
	end bool
}

// NewProxy listens on a free loopback port and forwards to target, which must be a loopback
// address too. The caller owes a Close.
func NewProxy(target string) (*Proxy, error) {
	addr, err := net.ResolveTCPAddr("tcp", target)
	if err != nil {
		return nil, fmt.Errorf("resolve proxy target: %w", err)
	}
	if !addr.IP.IsLoopback() {
		return nil, fmt.Errorf("proxy target %s is not on the loopback interface; faults are injected only there", target)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for proxy: %w", err)
	}
	p := &Proxy{target: target, listener: listener, links: map[*link]struct{}{}}
	for _, d := range []Direction{Up, Down} {
		p.open[d] = make(chan struct{})
		close(p.open[d])
	}
	p.wg.Go(p.accept)
	return p, nil
}

// Addr is where clients connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Delay makes every chunk wait d before it is passed on, in both directions. It adds
// latency without limiting throughput, and it applies to bytes read from now on.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latency = d
}

// Limit lets so many bytes a second pass in each direction, from now on; 0 = any number. Bytes
// that do not pass yet are not read either, so that the sender meets full socket buffers.
func (p *Proxy) Limit(bytesPerSecond int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate = bytesPerSecond
}

// narrow is the size of the socket buffers of a limited link: a router holds as little.
const narrow = 16 << 10

// Blackhole stops all bytes that go in the given directions (both if none is named): no
// reset, no FIN, new connections are accepted and stay silent. [Proxy.Heal] lets them pass,
// as retransmission would after a partition.
func (p *Proxy) Blackhole(directions ...Direction) {
	if len(directions) == 0 {
		directions = []Direction{Up, Down}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range directions {
		select {
		case <-p.open[d]:
			p.open[d] = make(chan struct{})
		default: // already stopped
		}
	}
}

// Heal ends every fault: bytes pass at once, new connections are accepted.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latency, p.rate, p.refuse = 0, 0, false
	for d, open := range p.open {
		select {
		case <-open:
		default:
			close(p.open[d])
		}
	}
}

// HalfClose sends a FIN to every client, as if the target had shut down its sending side,
// while bytes from the clients still pass.
func (p *Proxy) HalfClose() {
	for _, l := range p.snapshot() {
		_ = l.client.CloseWrite() // a link that is already gone is as closed as it can be
	}
}

// Reset ends every connection with an RST to both ends; bytes under way are lost. New
// connections are accepted.
func (p *Proxy) Reset() {
	for _, l := range p.snapshot() {
		_ = l.client.SetLinger(0) // linger 0 turns the close into a reset
		_ = l.server.SetLinger(0)
		l.close()
	}
}

// Cut resets every connection and refuses new ones until [Proxy.Heal].
func (p *Proxy) Cut() {
	p.mu.Lock()
	p.refuse = true
	p.mu.Unlock()
	p.Reset()
}

// Links is how many connections pass through the proxy now.
func (p *Proxy) Links() int { return len(p.snapshot()) }

// Close ends the proxy and everything that passes through it.
func (p *Proxy) Close() error {
	err := p.listener.Close()
	p.Cut()
	p.wg.Wait()
	return err
}

func (p *Proxy) snapshot() []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	links := make([]*link, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	return links
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return // the listener was closed
		}
		p.wg.Go(func() { p.serve(conn.(*net.TCPConn)) })
	}
}

func (p *Proxy) serve(client *net.TCPConn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = client.SetLinger(0) // a dead target looks like a reset
		_ = client.Close()
		return
	}
	l := &link{client: client, server: server.(*net.TCPConn), gone: make(chan struct{})}
	if !p.add(l) {
		_ = l.client.SetLinger(0)
		l.close()
		return
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { p.pump(l, Up, l.client, l.server) })
	pumps.Go(func() { p.pump(l, Down, l.server, l.client) })
	pumps.Wait()
	l.close()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// add registers a link unless the proxy refuses connections.
func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse {
		return false
	}
	p.links[l] = struct{}{}
	return true
}

func (l *link) close() {
	l.once.Do(func() {
		close(l.gone)
		_ = l.client.Close()
		_ = l.server.Close()
	})
}

// hold waits for d; false if the link is gone before.
func (l *link) hold(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.gone:
		return false
	}
}

// pump copies one direction. Reading and writing are apart, so that latency delays bytes
// without holding back those behind them.
func (p *Proxy) pump(l *link, d Direction, from, to *net.TCPConn) {
	chunks := make(chan chunk, pending)
	var writer sync.WaitGroup
	writer.Go(func() {
		for c := range chunks {
			if !p.pass(l, d, c, from, to) {
				l.close()
			}
		}
	})
	for {
		buf := make([]byte, chunkSize)
		n, err := from.Read(buf)
		p.mu.Lock()
		due := time.Now().Add(p.latency)
		rate := p.rate
		p.mu.Unlock()
		if rate > 0 {
			_ = from.SetReadBuffer(narrow) // a link that is gone needs none
			if !l.hold(time.Duration(n) * time.Second / time.Duration(rate)) {
				break
			}
		}
		if n > 0 {
			chunks <- chunk{due: due, data: buf[:n]}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				l.close()
			}
			chunks <- chunk{due: due, end: true}
			break
		}
	}
	close(chunks)
	writer.Wait()
}

// pass hands one chunk on when it is due and the direction is open. False: the link is dead.
func (p *Proxy) pass(l *link, d Direction, c chunk, from, to *net.TCPConn) bool {
	if wait := time.Until(c.due); wait > 0 {
		select {
		case <-time.After(wait):
		case <-l.gone:
			return false
		}
	}
	p.mu.Lock()
	open := p.open[d]
	p.mu.Unlock()
	select {
	case <-open:
	case <-l.gone:
		return false
	}
	if wasReset(from) {
		return false // the sender has taken back what was held here
	}
	if c.end {
		return to.CloseWrite() == nil
	}
	_, err := to.Write(c.data)
	return err == nil
}

// wasReset reports whether a reset has come that nobody has read yet.
func wasReset(conn *net.TCPConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return true // closed
	}
	var fault int
	err = raw.Control(func(fd uintptr) {
		fault, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR) // 0 if it cannot be asked for
	})
	return err != nil || fault != 0
}
