// Package peer holds what a benchmark runs in child processes beside the worker: the broker,
// the services that jobs are sent to, and the floor, a hand-written loop that does the work
// without any of the worker's promises. Each prints one line on its standard output when it
// is ready: the addresses to use, separated by spaces.
package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// startTimeout is how long the broker may take to accept connections.
const startTimeout = 20 * time.Second

// Broker is a nats-server with JetStream on a free loopback port.
type Broker struct {
	// StoreDir is where its streams' files go.
	StoreDir string
}

// Run serves until ctx is done.
func (b Broker) Run(ctx context.Context, out io.Writer) error {
	ns, err := server.NewServer(&server.Options{
		ServerName: "bench", Host: "127.0.0.1", Port: server.RANDOM_PORT,
		JetStream: true, StoreDir: b.StoreDir, NoLog: true, NoSigs: true,
	})
	if err != nil {
		return fmt.Errorf("configure the broker: %w", err)
	}
	ns.Start()
	defer ns.WaitForShutdown()
	defer ns.Shutdown()
	if !ns.ReadyForConnections(startTimeout) {
		return errors.New("start the broker: it accepts no connections")
	}
	if _, err := fmt.Fprintln(out, ns.ClientURL()); err != nil {
		return fmt.Errorf("report the broker's address: %w", err)
	}
	<-ctx.Done()
	return nil
}
