package app

import (
	"context"
	"errors"
	"fmt"

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
	}
	for _, target := range cfg.Targets {
		patient.Dependencies = append(patient.Dependencies, operate.Dependency{Name: target.Name, Reach: target.reach})
	}
	return operate.Doctor(ctx, patient)
}

// reach connects to the service.
func (t Target) reach(ctx context.Context) error {
	err := t.Reach(ctx, t.Config)
	if errors.Is(err, service.ErrNotTried) {
		return fmt.Errorf("%w: %w", operate.ErrNotTried, err)
	}
	return err
}
