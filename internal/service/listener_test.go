package service_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// rawServer is a listener that may break every rule of HTTP.
type rawServer struct {
	url string
	// ended gets one value for each connection that its handler left.
	ended chan struct{}
	mu    sync.Mutex
	conns []*net.TCPConn
}

// raw starts a listener that reads one request from every connection and hands it over.
func raw(t testing.TB, handle func(c *net.TCPConn)) *rawServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &rawServer{url: "http://" + l.Addr().String(), ended: make(chan struct{}, 64)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conn := c.(*net.TCPConn)
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			wg.Go(func() {
				readRequest(conn)
				handle(conn)
				_ = conn.Close()
				s.ended <- struct{}{}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			_ = c.Close()
		}
		s.mu.Unlock()
		wg.Wait()
	})
	return s
}

func readRequest(c net.Conn) {
	if req, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
		_, _ = io.Copy(io.Discard, req.Body)
	}
}

// say returns a handler that writes text and closes the connection in order.
func say(text string) func(*net.TCPConn) {
	return func(c *net.TCPConn) { _, _ = io.WriteString(c, text) }
}

// reset returns a handler that writes text and resets the connection. The client has read
// the text before: otherwise the reset could overtake it.
func reset(text string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		_, _ = io.WriteString(c, text)
		_ = c.SetLinger(0)
	}
}

// hang waits until the client gives up.
func hang(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }

// forever writes text again and again until the client gives up, and reports how much it
// could write.
func forever(head, text string, wrote func(int)) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		total, err := io.WriteString(c, head)
		for n := 0; err == nil; total += n {
			n, err = io.WriteString(c, text)
		}
		wrote(total)
	}
}
