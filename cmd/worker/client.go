package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"rollcall/internal/app"
	"rollcall/internal/bus"
)

const (
	// clientPatience is how long a command waits for the broker before it exits with 5.
	clientPatience = 5 * time.Second
	// goodbye bounds what a command does at its end: flushing, closing.
	goodbye = 3 * time.Second
)

// client is the connection of a command that works beside a pool.
type client struct {
	*bus.Conn
	cfg app.Config
}

// connect reads the settings and connects. The caller owes a call of hangUp.
func (c *cli) connect(ctx context.Context, purpose string) (*client, error) {
	cfg, err := app.Load(c.env)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, clientPatience)
	defer cancel()
	conn, err := bus.Connect(ctx, cfg.NATS, "rollcall "+purpose, zerolog.Nop())
	if err != nil {
		return nil, err
	}
	return &client{Conn: conn, cfg: cfg}, nil
}

// hangUp closes the connection. What it could not flush was not confirmed either, and that
// was told already.
func (cl *client) hangUp() {
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	_ = cl.Close(ctx)
}

// nextEvent is the sequence that the next event, or a later one, will have in the DONE stream.
func (cl *client) nextEvent(ctx context.Context) (uint64, error) {
	js, err := jetstream.New(cl.NATS())
	if err != nil {
		return 0, fmt.Errorf("open JetStream: %w", err)
	}
	stream, err := js.Stream(ctx, bus.StreamDone)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return 0, fmt.Errorf("stream %s: %w: 'worker setup' creates it", bus.StreamDone, bus.ErrMissing)
	case err != nil:
		return 0, fmt.Errorf("look up stream %s: %w", bus.StreamDone, err)
	}
	return stream.CachedInfo().State.LastSeq + 1, nil
}
