package web

import (
	"container/list"
	"net"
	"net/http"
	"sync"
)

// MaxConnections bounds the connections to one port of our own. Each costs about 20 KB, so all of
// them together cost less than 3 MiB.
const MaxConnections = 128

// connections bounds the connections of an HTTP server. A new one over the bound takes the
// place of the one that has been idle longest, so that clients that only hold connections
// open cannot keep a health probe out. Where all are at work, the new one is closed.
type connections struct {
	max int

	mu sync.Mutex
	// open holds every connection's place in idle, or nil while a request is served.
	open map[net.Conn]*list.Element
	// idle holds the connections without a request, the longest idle one first.
	idle list.List
}

func newConnections(limit int) *connections {
	return &connections{max: limit, open: map[net.Conn]*list.Element{}}
}

// track is the server's ConnState hook. The server calls it for a new connection before it
// accepts the next one.
func (c *connections) track(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.makeRoom(conn)
	case http.StateIdle:
		c.forget(conn)
		c.open[conn] = c.idle.PushBack(conn)
	case http.StateActive:
		if _, known := c.open[conn]; known {
			c.forget(conn)
			c.open[conn] = nil
		}
	case http.StateClosed, http.StateHijacked:
		c.forget(conn)
	}
}

// makeRoom adds a new connection and closes one if there are too many.
func (c *connections) makeRoom(conn net.Conn) {
	c.open[conn] = c.idle.PushBack(conn)
	if len(c.open) <= c.max {
		return
	}
	longest := c.idle.Front().Value.(net.Conn)
	c.forget(longest)
	_ = longest.Close() // the server sees the end of it and cleans up
}

func (c *connections) forget(conn net.Conn) {
	if place := c.open[conn]; place != nil {
		c.idle.Remove(place)
	}
	delete(c.open, conn)
}
