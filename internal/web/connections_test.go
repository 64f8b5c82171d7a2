package web_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rollcall/internal/web"
)

// dial opens a connection that sends nothing.
func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// open counts the connections that the server has not closed: reading from them does not end. A deadline that is over
// before a read begins would say the same of any, so all are read at once and for long.
func open(t *testing.T, conns []net.Conn) int {
	t.Helper()
	var n atomic.Int32
	var wg sync.WaitGroup
	until := time.Now().Add(time.Second)
	for _, c := range conns {
		wg.Go(func() {
			if err := c.SetReadDeadline(until); err != nil {
				t.Error(err)
			}
			if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
				n.Add(1)
			}
		})
	}
	wg.Wait()
	return int(n.Load())
}

func livez(t *testing.T, addr string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/livez", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		t.Fatalf("a probe got no reply: %v", err)
	}
	defer response.Body.Close()
	return response.StatusCode
}

func TestIdleConnectionsAreBoundedAndKeepNoProbeOut(t *testing.T) {
	t.Parallel()
	addr, _ := serve(t, web.Handler(fixed{alive: true}))
	idle := make([]net.Conn, 3*web.MaxConnections)
	for i := range idle {
		idle[i] = dial(t, addr)
	}
	if code := livez(t, addr); code != http.StatusOK {
		t.Errorf("a probe beside %d idle connections: %d", len(idle), code)
	}
	if n := open(t, idle); n > web.MaxConnections {
		t.Errorf("%d idle connections are open, want at most %d", n, web.MaxConnections)
	}
}

func TestKeptAliveConnectionsAreBoundedToo(t *testing.T) {
	t.Parallel()
	addr, _ := serve(t, web.Handler(fixed{alive: true}))
	kept := make([]net.Conn, 2*web.MaxConnections)
	for i := range kept {
		kept[i] = dial(t, addr)
		if _, err := io.WriteString(kept[i], "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := kept[i].Read(make([]byte, 4096)); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	if n := open(t, kept); n > web.MaxConnections {
		t.Errorf("%d connections are open, want at most %d", n, web.MaxConnections)
	}
}

func TestARequestUnderWayOutlivesAFloodOfConnections(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	addr, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		w.WriteHeader(http.StatusNoContent)
	}))
	slow := dial(t, addr)
	if _, err := io.WriteString(slow, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-entered
	for range 2 * web.MaxConnections {
		dial(t, addr)
	}
	close(release)
	if err := slow.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := slow.Read(make([]byte, 4096)); err != nil {
		t.Errorf("the request under way got %d bytes and %v", n, err)
	}
}
