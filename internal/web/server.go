// Package web serves the worker's own pages over HTTP: health, metrics and a dashboard, all
// read-only.
package web

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Config is where to serve.
type Config struct {
	Addr string `envconfig:"ROLLCALL_HTTP_ADDR" default:"127.0.0.1:8080" desc:"where to serve /livez, /readyz, /metrics and the dashboard; port 0 takes a free one"`
}

// Validate returns all faults, joined.
func (c Config) Validate() error {
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		return fmt.Errorf("ROLLCALL_HTTP_ADDR is %q: want host:port, for example 127.0.0.1:8080", c.Addr)
	}
	return nil
}

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

// Listen takes the address and returns a server that serves handler once Run is called.
func Listen(ctx context.Context, c Config, handler http.Handler) (*Server, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", c.Addr)
	if err != nil {
		return nil, fmt.Errorf("serve health pages: %w; choose another ROLLCALL_HTTP_ADDR, port 0 takes a free one", err)
	}
	return &Server{listener: listener, http: http.Server{
		Handler:           handler,
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
