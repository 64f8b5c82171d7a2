package app

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/operate"
	"rollcall/internal/service"
)

// Doctor looks at everything that a replica with these settings depends on, see
// [operate.Doctor]. monitor is the URL of the monitoring port of the NATS server; empty = port
// 8222 of the server connected to.
func Doctor(ctx context.Context, cfg Config, log zerolog.Logger, opts Options, monitor string) ([]operate.Finding, error) {
	patient := operate.Patient{
		Connect: func(ctx context.Context) (*bus.Conn, error) { return connect(ctx, cfg, opts, log) },
		Streams: cfg.Streams, Pool: cfg.Pool, Monitor: monitor,
		Files: cfg.openFiles(),
	}
	for _, target := range cfg.Targets {
		patient.Dependencies = append(patient.Dependencies, operate.Dependency{Name: target.Name, Takes: target.Config.Subjects, Ask: func(ctx context.Context) (string, error) {
			return target.ask(ctx, service.Deps{Version: opts.Version, RetryMax: cfg.Engine.RetryMax, Log: log})
		}})
	}
	return operate.Doctor(ctx, patient)
}

// ownFiles is how many files a replica has open besides connections to services and to its own
// ports: the log, the broker, the resolver, secrets that are read again, the runtime's own.
const ownFiles = 32

// openFiles is how many files a replica with these settings has open when every connection that
// it may make is in use. Where a service's concurrency is found by itself, twice that of the
// default settings is expected.
func (c Config) openFiles() int {
	n := ownFiles + c.Web.MaxConnections()
	for _, target := range c.Targets {
		switch concurrency := int(target.Config.Concurrency); {
		case strings.HasPrefix(target.URL, "nats:"): // they share the connection to the broker
		case target.Config.Concurrency == service.Auto:
			n += 64
		default:
			n += concurrency
		}
	}
	return n
}

// ask calls the service with an empty batch, or connects to it.
func (t Target) ask(ctx context.Context, deps service.Deps) (said string, err error) {
	said, err = t.Ask(ctx, t.Config, deps)
	if errors.Is(err, service.ErrNotTried) {
		return "", fmt.Errorf("%w: %w", operate.ErrNotTried, err)
	}
	return said, err
}
