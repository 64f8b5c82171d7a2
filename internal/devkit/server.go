package devkit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
)

// DefaultPort is where NATS clients connect by default.
const DefaultPort = 4222

const (
	loopback = "127.0.0.1"
	// readyWithin is how long a start may take where ctx says nothing; recovering a big
	// store is the slow part.
	readyWithin = 30 * time.Second
	// readyPoll is how often the start looks at ctx while it waits.
	readyPoll = 100 * time.Millisecond
)

// ErrPortTaken is returned when something else listens on the wanted port.
var ErrPortTaken = errors.New("the port is taken")

// Options say where the embedded server listens and keeps its data.
type Options struct {
	// Dir holds the streams. Empty means a temporary directory that Shutdown removes.
	Dir string
	// Port on loopback; 0 means any free one.
	Port int
	// Log gets the server's warnings and errors. The zero Logger drops them.
	Log zerolog.Logger
}

// Server is a nats-server with JetStream inside this process, listening on loopback.
type Server struct {
	nats *server.Server
	dir  string
	// temporary means that dir goes with the server.
	temporary bool
	once      sync.Once
}

// Start starts a server and returns when clients can connect. ctx bounds the start only; the
// caller owes a call of [Server.Shutdown]. The error wraps [ErrPortTaken] where it applies.
func Start(ctx context.Context, o Options) (*Server, error) {
	if err := probe(ctx, o.Port); err != nil {
		return nil, fmt.Errorf("start embedded nats-server: %w", err)
	}
	s := &Server{dir: o.Dir}
	if s.dir == "" {
		temp, err := os.MkdirTemp("", "rollcall-")
		if err != nil {
			return nil, fmt.Errorf("create the store of the embedded nats-server: %w", err)
		}
		s.dir, s.temporary = temp, true
	}
	ns, err := server.NewServer(serverOptions(s.dir, o.Port))
	if err != nil {
		s.removeTemp()
		return nil, fmt.Errorf("configure embedded nats-server: %w", err)
	}
	s.nats = ns
	fatal := make(chan error, 1)
	ns.SetLogger(&quiet{log: o.Log, fatal: fatal}, false, false)
	ns.Start()
	if err := s.awaitReady(ctx, fatal); err != nil {
		s.Shutdown()
		return nil, fmt.Errorf("start embedded nats-server: %w", err)
	}
	return s, nil
}

// probe reports a taken port before the server is built: nats-server itself only logs it.
func probe(ctx context.Context, port int) error {
	if port == 0 {
		return nil
	}
	addr := net.JoinHostPort(loopback, strconv.Itoa(port))
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w: %w", addr, ErrPortTaken, err)
	}
	return l.Close()
}

func serverOptions(dir string, port int) *server.Options {
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return &server.Options{
		ServerName:             "rollcall-devkit",
		Host:                   loopback,
		Port:                   port,
		JetStream:              true,
		StoreDir:               dir,
		NoSigs:                 true,
		DisableJetStreamBanner: true,
	}
}

func (s *Server) awaitReady(ctx context.Context, fatal <-chan error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyWithin, fmt.Errorf("not ready within %s", readyWithin))
	defer cancel()
	for !s.nats.ReadyForConnections(readyPoll) {
		select {
		case err := <-fatal:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		default:
		}
	}
	if !s.nats.JetStreamEnabled() {
		return errors.New("JetStream did not come up; see the log for the reason")
	}
	return nil
}

// URL is what clients connect to.
func (s *Server) URL() string { return s.nats.ClientURL() }

// Dir is where the streams are kept.
func (s *Server) Dir() string { return s.dir }

// Shutdown stops the server, waits for it, and removes the store if it was temporary. It may
// be called more than once.
func (s *Server) Shutdown() {
	s.once.Do(func() {
		s.nats.Shutdown()
		s.nats.WaitForShutdown()
		s.removeTemp()
	})
}

// removeTemp leaves the directory alone when it cannot be removed: it is the system's
// temporary one, and nobody could do more about it.
func (s *Server) removeTemp() {
	if s.temporary {
		_ = os.RemoveAll(s.dir)
	}
}

// quiet is the server's logger: it passes on what is worth a person's attention and keeps
// the reason of a start that failed.
type quiet struct {
	log   zerolog.Logger
	fatal chan<- error
}

// Noticef drops the banner and the like.
func (q *quiet) Noticef(string, ...any) {}

// Warnf logs a warning.
func (q *quiet) Warnf(format string, v ...any) {
	q.log.Warn().Str("detail", fmt.Sprintf(format, v...)).Msg("embedded nats-server")
}

// Errorf logs an error.
func (q *quiet) Errorf(format string, v ...any) {
	q.log.Error().Str("detail", fmt.Sprintf(format, v...)).Msg("embedded nats-server")
}

// Fatalf keeps the reason; nats-server leaves ending the process to its logger.
func (q *quiet) Fatalf(format string, v ...any) {
	select {
	case q.fatal <- fmt.Errorf(format, v...):
	default:
	}
}

// Debugf drops everything.
func (q *quiet) Debugf(string, ...any) {}

// Tracef drops everything.
func (q *quiet) Tracef(string, ...any) {}
