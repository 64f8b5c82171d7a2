package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/bench/peer"
	"rollcall/bench/proc"
)

// Setup is what all measurements of a session share.
type Setup struct {
	// Exe is this program; with Args before them it runs the arguments of [peer.Args].
	Exe  string
	Args []string
	// Dir is where the broker's files go, one fresh folder a measurement.
	Dir string
	// Profile is the file for a CPU profile of the broker, from its start to its end; empty = none.
	Profile string
}

// Lab is the surroundings of one measurement: its broker, services and replicas.
type Lab struct {
	setup    Setup
	dir      string
	nc       *nats.Conn
	js       jetstream.JetStream
	url      string
	services []string

	broker, serving *proc.Process
	replicas        []*proc.Process
}

// Measure runs one contender once, in fresh surroundings, and checks that it did the work:
// every job is in exactly one event.
func Measure(ctx context.Context, setup Setup, c Contender, s Spec) (result Result, err error) {
	l, err := open(ctx, setup, s)
	if l != nil {
		defer func() { err = errors.Join(err, l.close()) }()
	}
	if err != nil {
		return Result{}, err
	}
	if err := c.prepare(ctx, l.js, s); err != nil {
		return Result{}, err
	}
	for i := range max(1, s.Replicas) {
		p, err := c.start(ctx, l, s, i)
		if p != nil {
			l.replicas = append(l.replicas, p)
		}
		if err != nil {
			return Result{}, err
		}
	}
	switch {
	case s.Jobs == 0:
		return l.idle(ctx, s)
	case s.Rate > 0:
		return l.steady(ctx, c, s)
	default:
		return l.drain(ctx, c, s)
	}
}

func open(ctx context.Context, setup Setup, s Spec) (*Lab, error) {
	dir, err := os.MkdirTemp(setup.Dir, "rollcall-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the broker: %w", err)
	}
	l := &Lab{setup: setup, dir: dir}
	if l.broker, err = l.child(ctx, peer.ChildBroker, peer.Broker{StoreDir: dir, Nodes: s.Nodes, Synced: s.Synced, Profile: setup.Profile}); err != nil {
		return l, err
	}
	if l.url, err = l.broker.Ready(ctx); err != nil {
		return l, err
	}
	l.serving, err = l.child(ctx, peer.ChildServices, peer.Services{
		Count: s.Services, Delay: s.Delay, Jitter: s.Jitter, RetryShare: s.RetryShare,
	})
	if err != nil {
		return l, err
	}
	addresses, err := l.serving.Ready(ctx)
	if err != nil {
		return l, err
	}
	l.services = strings.Fields(addresses)
	if l.nc, err = nats.Connect(l.url); err != nil {
		return l, fmt.Errorf("connect to the broker: %w", err)
	}
	if l.js, err = jetstream.New(l.nc, jetstream.WithPublishAsyncMaxPending(4096)); err != nil {
		return l, fmt.Errorf("open JetStream: %w", err)
	}
	return l, nil
}

func (l *Lab) child(ctx context.Context, name string, settings any) (*proc.Process, error) {
	args, err := peer.Args(name, settings)
	if err != nil {
		return nil, err
	}
	return proc.Start(ctx, proc.Spec{
		Name: name, Path: l.setup.Exe, Args: append(l.setup.Args[:len(l.setup.Args):len(l.setup.Args)], args...), Env: os.Environ(),
	})
}

// close ends every child, the replicas first, and removes the broker's files.
func (l *Lab) close() error {
	var errs []error
	for _, p := range append(l.replicas, l.serving) {
		if p != nil {
			errs = append(errs, p.Stop())
		}
	}
	if l.nc != nil {
		l.nc.Close()
	}
	if l.broker != nil {
		errs = append(errs, l.broker.Stop())
	}
	return errors.Join(append(errs, os.RemoveAll(l.dir))...)
}

// sleep waits for d, or less if ctx ends or a process does; both are errors.
func sleep(ctx context.Context, d time.Duration, watched ...*proc.Process) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for _, p := range watched {
		if err := p.Err(); err != nil {
			return err
		}
	}
	return nil
}
