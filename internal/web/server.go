// Package web serves the worker's own pages over HTTP: health, metrics and a dashboard, all
// read-only.
package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Config is where to serve.
type Config struct {
	Addr     string `envconfig:"ROLLCALL_HTTP_ADDR" default:"127.0.0.1:8080" desc:"where to serve /livez, /readyz, /metrics and the dashboard; port 0 takes a free one"`
	PageAddr string `envconfig:"ROLLCALL_PAGE_ADDR" desc:"where to serve the dashboard and /api instead, so that ROLLCALL_HTTP_ADDR has health and metrics only; empty = there too"`
}

// Validate returns all faults, joined.
func (c Config) Validate() error {
	var faults []error
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		faults = append(faults, fmt.Errorf("ROLLCALL_HTTP_ADDR is %q: want host:port, for example 127.0.0.1:8080", c.Addr))
	}
	if _, port, err := net.SplitHostPort(c.PageAddr); c.PageAddr != "" && err != nil {
		faults = append(faults, fmt.Errorf("ROLLCALL_PAGE_ADDR is %q: want host:port, for example 127.0.0.1:8081", c.PageAddr))
	} else if c.PageAddr == c.Addr && port != "0" {
		faults = append(faults, fmt.Errorf("ROLLCALL_PAGE_ADDR is %q, as is ROLLCALL_HTTP_ADDR: leave it out to serve everything there", c.PageAddr))
	}
	return errors.Join(faults...)
}

// Site is what is served at one address, and the setting that names it.
type Site struct {
	Setting, Addr string
	// People means that the dashboard is there.
	People  bool
	Handler http.Handler
}

// Sites returns what is served where: health pages and metrics, and the dashboard with them or
// apart.
func (c Config) Sites(p Prober, metrics http.Handler, v Viewer) []Site {
	if c.PageAddr == "" {
		return []Site{{"ROLLCALL_HTTP_ADDR", c.Addr, true, Everything(p, metrics, v)}}
	}
	return []Site{{"ROLLCALL_HTTP_ADDR", c.Addr, false, signals(p, metrics)}, {"ROLLCALL_PAGE_ADDR", c.PageAddr, true, pages(v)}}
}

// MaxConnections is how many connections the sites have at most.
func (c Config) MaxConnections() int {
	if c.PageAddr == "" {
		return MaxConnections
	}
	return 2 * MaxConnections
}

// Page is the address of the dashboard.
func (c Config) Page() string { return cmp.Or(c.PageAddr, c.Addr) }

// The limits of a server that may stand on an open port: a slow client, or one that sends
// headers without end, costs one connection for these seconds, and no more.
const (
	readTimeout     = 5 * time.Second
	writeTimeout    = 10 * time.Second
	idleTimeout     = 60 * time.Second
	maxHeaderBytes  = 16 << 10
	shutdownTimeout = 2 * time.Second
)

// Server is an HTTP server that listens already.
type Server struct {
	listener net.Listener
	http     http.Server
}

// Listen takes the address of a site and returns a server that serves it once Run is called.
func Listen(ctx context.Context, s Site) (*Server, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", s.Addr)
	if err != nil {
		return nil, fmt.Errorf("serve the worker's own pages: %w; choose another %s, port 0 takes a free one", err, s.Setting)
	}
	return &Server{listener: listener, http: http.Server{
		Handler:           s.Handler,
		ReadTimeout:       readTimeout,
		ReadHeaderTimeout: readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnState:         newConnections(MaxConnections).track,
	}}, nil
}

// Addr is where the server listens: the real port where the setting said 0.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Run serves until ctx is done, lets requests under way end for a moment and returns nil.
// An error means that serving failed before. Run is called at most once, and closes the
// listener.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve on %s: %w", s.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := s.http.Shutdown(grace); err != nil {
		err = s.http.Close() // a client holds its request open; the worker does not wait for it
		if err != nil {
			return errors.Join(err, <-served)
		}
	}
	<-served
	return nil
}
