package main

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/app"
	"rollcall/internal/bus"
	"rollcall/internal/operate"
)

const (
	// clientPatience is how long a command waits for the broker before it exits with 5.
	clientPatience = 5 * time.Second
	// closeTimeout bounds what a command does at its end: flushing, closing.
	closeTimeout = 3 * time.Second
)

// client is the connection of a command that works beside a pool.
type client struct {
	*bus.Conn
	cfg app.Config
}

// connect reads the settings and connects as an operator, if those have a login of their own. The
// caller owes a call of hangUp.
func (c *cli) connect(ctx context.Context, purpose string) (*client, error) {
	cfg, err := app.Load(c.env)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, clientPatience)
	defer cancel()
	conn, err := bus.Connect(ctx, cfg.NATS.Operator(), "rollcall "+purpose, zerolog.Nop())
	if err != nil {
		return nil, err
	}
	return &client{Conn: conn.KeepDoneIn(cfg.Streams.DoneStream(cfg.Pool)), cfg: cfg}, nil
}

// hangUp closes the connection. Messages that it cannot flush were not confirmed, which was reported
// already.
func (cl *client) hangUp() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = cl.Close(ctx)
}

// admin is the administration of the pool of the settings.
func (cl *client) admin() *operate.Admin {
	return operate.NewAdmin(cl.Conn, cl.cfg.Streams, cl.cfg.Pool)
}
