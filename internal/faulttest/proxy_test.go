package faulttest_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"rollcall/internal/faulttest"
)

// soon is long enough for anything that must happen on loopback, on a busy machine too.
const soon = 10 * time.Second

// quiet is how long a test watches for bytes that must not come.
const quiet = 100 * time.Millisecond

// echoServer answers every line with itself until the client closes its sending side.
func echoServer(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	return listener.Addr().String()
}

func newProxy(t *testing.T) *faulttest.Proxy {
	t.Helper()
	p, err := faulttest.NewProxy(echoServer(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

type client struct {
	t    *testing.T
	conn *net.TCPConn
	in   *bufio.Reader
}

func dial(t *testing.T, p *faulttest.Proxy) *client {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &client{t: t, conn: conn.(*net.TCPConn), in: bufio.NewReader(conn)}
}

func (c *client) send(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, line+"\n"); err != nil {
		c.t.Fatalf("send %q: %v", line, err)
	}
}

// read returns the next line that comes within d.
func (c *client) read(d time.Duration) (string, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(d))
	line, err := c.in.ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}

func (c *client) expect(line string) {
	c.t.Helper()
	got, err := c.read(soon)
	if err != nil || got != line {
		c.t.Fatalf("read %q, %v; want %q", got, err, line)
	}
}

func (c *client) expectSilence() {
	c.t.Helper()
	got, err := c.read(quiet)
	var netErr net.Error
	if !errors.As(err, &netErr) || !netErr.Timeout() {
		c.t.Fatalf("read %q, %v; want silence", got, err)
	}
}

// expectReset sees a new connection reset, which the kernel may report to the dial or to
// the first read.
func expectReset(t *testing.T, p *faulttest.Proxy) {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err == nil {
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(soon))
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("a new connection: %v, want ECONNRESET", err)
	}
}

func TestProxyPassesBytesBothWays(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	c := dial(t, p)
	big := strings.Repeat("x", 1<<20)
	for _, line := range []string{"hello", "", big} {
		c.send(line)
		c.expect(line)
	}
	if err := c.conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.read(soon); !errors.Is(err, io.EOF) {
		t.Fatalf("after the client's FIN: %v, want EOF from the echo server", err)
	}
}

func TestProxyDelaysWithoutLimitingThroughput(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	c := dial(t, p)
	const latency = 50 * time.Millisecond
	p.Delay(latency)
	start := time.Now()
	line := strings.Repeat("x", 32<<10) // more than the proxy reads at once
	for range 20 {
		c.send(line)
	}
	for range 20 {
		c.expect(line)
	}
	took := time.Since(start)
	if took < 2*latency {
		t.Errorf("20 echoes took %v; both ways together must wait %v", took, 2*latency)
	}
	if took >= 20*latency {
		t.Errorf("20 echoes took %v: the delays of pipelined lines add up", took)
	}
}

func TestProxyBlackholeIsSilentAndHeals(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	old := dial(t, p)
	old.send("before")
	old.expect("before")
	p.Blackhole()
	old.send("lost?")
	fresh := dial(t, p)
	fresh.send("new")
	old.expectSilence()
	fresh.expectSilence()
	p.Heal()
	old.expect("lost?")
	fresh.expect("new")
}

func TestProxyBlackholesOneDirection(t *testing.T) {
	t.Parallel()
	received := make(chan string, 1)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		line, _ := bufio.NewReader(conn).ReadString('\n')
		_, _ = io.WriteString(conn, "answer\n")
		received <- line
	}()
	p, err := faulttest.NewProxy(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	p.Blackhole(faulttest.Down)
	c := dial(t, p)
	c.send("question")
	select {
	case line := <-received:
		if line != "question\n" {
			t.Errorf("the target received %q", line)
		}
	case <-time.After(soon):
		t.Fatal("the request did not pass although only answers are stopped")
	}
	c.expectSilence()
	p.Heal()
	c.expect("answer")
}

func TestProxyHalfCloseEndsTheAnswersOnly(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	c := dial(t, p)
	c.send("a")
	c.expect("a")
	p.HalfClose()
	if _, err := c.read(soon); !errors.Is(err, io.EOF) {
		t.Fatalf("read after a half close: %v, want EOF", err)
	}
	if _, err := io.WriteString(c.conn, "still open\n"); err != nil {
		t.Errorf("write after a half close: %v", err)
	}
}

func TestProxyResetIsAResetAndTakesNewConnections(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	c := dial(t, p)
	c.send("a")
	c.expect("a")
	p.Reset()
	if _, err := c.read(soon); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("read after a reset: %v, want ECONNRESET", err)
	}
	again := dial(t, p)
	again.send("b")
	again.expect("b")
}

func TestProxyCutRefusesUntilHealed(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	c := dial(t, p)
	c.send("a")
	c.expect("a")
	p.Cut()
	if _, err := c.read(soon); err == nil {
		t.Fatal("the connection survived a cut")
	}
	expectReset(t, p)
	p.Heal()
	again := dial(t, p)
	again.send("b")
	again.expect("b")
}

func TestProxyResetsWhenTheTargetIsDown(t *testing.T) {
	t.Parallel()
	p, err := faulttest.NewProxy(fmt.Sprintf("127.0.0.1:%d", faulttest.FreePort(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	expectReset(t, p)
}

func TestProxyForwardsOnlyToLoopback(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"192.0.2.1:80", "0.0.0.0:80", "nonsense"} {
		if p, err := faulttest.NewProxy(target); err == nil {
			_ = p.Close()
			t.Errorf("NewProxy(%q) was accepted", target)
		}
	}
}

func TestProxyCloseWhileStalled(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	c := dial(t, p)
	c.send("a")
	c.expect("a")
	p.Blackhole()
	c.send("stuck")
	closed := make(chan error, 1)
	go func() { closed <- p.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(soon):
		t.Fatal("Close hangs while bytes are held back")
	}
	if n := p.Links(); n != 0 {
		t.Errorf("%d links after Close", n)
	}
}
