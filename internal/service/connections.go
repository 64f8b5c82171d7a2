package service

import (
	"cmp"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// connections are the connections to one service, in generations: a generation is given up after
// a minute, so that a name that moves to another address is looked up again, and when a
// certificate file changes. Requests under way finish on their own.
type connections struct {
	name  string
	cfg   *Config
	deps  Deps
	https bool
	log   zerolog.Logger

	mu    sync.Mutex
	now   *generation
	files watch
}

// defaultConnAge is how long a connection is used before the name is looked up again.
const defaultConnAge = time.Minute

// generation is a pool of connections that are all younger than a minute.
type generation struct {
	kept *http.Transport
	// fresh dials anew for every request.
	fresh *http.Transport
	born  time.Time
}

func newConnections(name, scheme string, cfg *Config, deps Deps) (*connections, error) {
	c := &connections{name: name, cfg: cfg, deps: deps, https: scheme == "https", log: deps.Log, files: newWatch(cfg.CA, cfg.Cert, cfg.Key)}
	var err error
	c.now, err = c.generation()
	return c, err
}

// generation makes connections of the files as they stand.
func (c *connections) generation() (*generation, error) {
	g := &generation{born: time.Now()}
	var err error
	if g.kept, err = newRoundTripper(c.name, c.https, c.cfg, c.deps); err != nil {
		return nil, err
	}
	if g.fresh, err = newRoundTripper(c.name, c.https, c.cfg, c.deps); err != nil {
		return nil, err
	}
	g.fresh.DisableKeepAlives = true
	return g, nil
}

// current returns the connections to use.
func (c *connections) current() *generation {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	changed := c.files.changed(now)
	if !changed && now.Sub(c.now.born) < cmp.Or(c.deps.ConnAge, defaultConnAge) {
		return c.now
	}
	next, err := c.generation()
	if err != nil {
		// In the middle of a change, or a mistake: what was read before goes on.
		c.log.Warn().Str("service", c.name).Err(err).Msg("certificate files changed and cannot be used")
		c.now.born = now
		return c.now
	}
	if changed {
		c.log.Info().Str("service", c.name).Msg("certificate files read again")
	}
	// A transport keeps no connection that becomes idle after CloseIdleConnections.
	c.now.kept.CloseIdleConnections()
	c.now = next
	return next
}

func (c *connections) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.kept.CloseIdleConnections()
}

// newRoundTripper returns a pool of connections to one service: as many as calls may be under
// way, all of them kept.
func newRoundTripper(name string, https bool, cfg *Config, deps Deps) (*http.Transport, error) {
	limit := int(cfg.Concurrency)
	if cfg.Concurrency == Auto {
		limit = autoMax
	}
	rt := &http.Transport{
		MaxConnsPerHost: limit, MaxIdleConnsPerHost: limit, MaxIdleConns: limit, IdleConnTimeout: 90 * time.Second,
		MaxResponseHeaderBytes: maxHeader, WriteBufferSize: writeBuffer, ReadBufferSize: readBuffer,
		ForceAttemptHTTP2:  true,
		DisableCompression: true, // unzip does it
		// A dead HTTP/2 connection would otherwise fail every call that shares it, for minutes.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
	}
	if !https {
		rt.DialContext = newDialer(cfg, nil, deps.Resolver).dialDirect
		return rt, nil
	}
	config, err := cfg.tlsConfig(name)
	if err != nil {
		return nil, err
	}
	d := newDialer(cfg, config, deps.Resolver)
	rt.DialContext, rt.DialTLSContext, rt.TLSClientConfig = d.DialContext, d.dialTLS, config
	rt.WriteBufferSize = tlsBuffer
	return rt, nil
}
