// Package peer holds what a benchmark runs in child processes beside the worker: the broker,
// the services that jobs are sent to, and two hand-written loops that do the work without any
// of the worker's promises: [Floor], the measure, and [Simple]. Each prints one line on its standard output when it
// is ready: the addresses to use, separated by spaces.
package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// startTimeout is how long the broker may take to accept connections.
const startTimeout = 20 * time.Second

// Broker is a nats-server with JetStream on a free loopback port, or a cluster of them.
type Broker struct {
	// StoreDir is where its streams' files go, one folder a node.
	StoreDir string
	// Nodes is how many servers form a cluster; 0 and 1 = a single server.
	Nodes int
	// Synced makes the broker sync every write to the disk before it is confirmed.
	Synced bool
	// Profile is the file for a CPU profile of the broker's process; empty = none.
	Profile string
}

// Run serves until ctx is done. The address that it reports is a comma list of all nodes.
func (b Broker) Run(ctx context.Context, out io.Writer) (err error) {
	if b.Profile != "" {
		stop, failed := profile(b.Profile)
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	nodes, err := b.nodes(ctx)
	defer func() {
		for _, ns := range nodes {
			ns.Shutdown()
			ns.WaitForShutdown()
		}
	}()
	if err != nil {
		return err
	}
	urls := make([]string, len(nodes))
	for i, ns := range nodes {
		if !ns.ReadyForConnections(startTimeout) {
			return fmt.Errorf("start node %d of the broker: it accepts no connections", i)
		}
		urls[i] = ns.ClientURL()
	}
	if err := awaitJetStream(ctx, strings.Join(urls, ",")); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, strings.Join(urls, ",")); err != nil {
		return fmt.Errorf("report the broker's address: %w", err)
	}
	<-ctx.Done()
	return nil
}

// profile begins a CPU profile of this process; stop ends it.
func profile(path string) (stop func() error, err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("make a file for the broker's profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("profile the broker: %w", err), f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// nodes starts the servers. Those of a cluster know each other's ports beforehand, as
// JetStream wants it.
func (b Broker) nodes(ctx context.Context) (nodes []*server.Server, err error) {
	ports, routes, err := clusterPorts(ctx, b.Nodes)
	if err != nil {
		return nil, err
	}
	for i := range max(b.Nodes, 1) {
		opts := &server.Options{
			ServerName: fmt.Sprintf("bench-%d", i), Host: "127.0.0.1", Port: server.RANDOM_PORT,
			JetStream: true, StoreDir: filepath.Join(b.StoreDir, fmt.Sprintf("node-%d", i)), SyncAlways: b.Synced,
			NoLog: true, NoSigs: true,
		}
		if b.Nodes > 1 {
			opts.Cluster = server.ClusterOpts{Name: "bench", Host: "127.0.0.1", Port: ports[i]}
			opts.Routes = server.RoutesFromStr(routes)
		}
		ns, err := server.NewServer(opts)
		if err != nil {
			return nodes, fmt.Errorf("configure node %d of the broker: %w", i, err)
		}
		nodes = append(nodes, ns)
		ns.Start()
	}
	return nodes, nil
}

// clusterPorts finds a free port for each node, and returns them also as a comma list of URLs.
func clusterPorts(ctx context.Context, nodes int) (ports []int, routes string, err error) {
	urls := make([]string, 0, nodes)
	for range nodes {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, "", fmt.Errorf("find a port for the cluster: %w", err)
		}
		defer listener.Close() // only now, so that no port is found twice
		port := listener.Addr().(*net.TCPAddr).Port
		ports = append(ports, port)
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	return ports, strings.Join(urls, ","), nil
}

// awaitJetStream returns once the broker answers requests for JetStream: a cluster elects a
// leader first.
func awaitJetStream(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	nc, err := nats.Connect(url)
	if err != nil {
		return fmt.Errorf("connect to the broker: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("open JetStream at the broker: %w", err)
	}
	for {
		// A request that no leader is there to answer is lost.
		once, stop := context.WithTimeout(ctx, 250*time.Millisecond)
		_, err = js.AccountInfo(once)
		stop()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for JetStream at the broker: %w", err)
		}
	}
}
