package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/ledger"
	"rollcall/internal/operate"
	"rollcall/internal/pool"
	"rollcall/internal/service"
)

// source is what both kinds of source offer beyond what the pool asks for.
type source interface {
	pool.Source
	pool.Settler
	Run(ctx context.Context) error
	Drain()
	Lease() time.Duration
	Healthy() error
	Close(ctx context.Context) error
}

// parts is everything that a replica is made of.
type parts struct {
	source     source
	services   []*service.Service
	pool       pool.Parts
	background []func(context.Context) error
	// engine is set before anything runs in the background.
	engine *pool.Pool
	// state of the pool as the broker knows it; nil in core mode.
	state *poolState
	// peers are the replicas of the pool.
	peers *peers
}

func connect(ctx context.Context, cfg Config, opts Options, log zerolog.Logger) (*bus.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, opts.Patience)
	defer cancel()
	conn, err := bus.Connect(ctx, cfg.NATS, "rollcall "+cfg.Pool+" "+opts.Replica, log, opts.NATS...)
	if err != nil {
		return nil, err
	}
	return conn.KeepDoneIn(cfg.Streams.DoneStream(cfg.Pool)), nil
}

// assemble makes the parts and binds them to the broker.
func (r *replica) assemble(ctx context.Context, conn *bus.Conn) (*parts, error) {
	p := &parts{}
	bind := p.bindStreams
	if r.cfg.Streams.Source == bus.SourceCore {
		bind = p.bindCore
	}
	if err := bind(ctx, r, conn); err != nil {
		return nil, err
	}
	p.peers = newPeers(conn, operate.NewAdmin(conn, r.cfg.Streams, r.cfg.Pool), r.seen.digest, r.log)
	p.background = append(p.background, p.peers.run)
	if err := p.addServices(r, conn); err != nil {
		p.closeServices()
		return nil, err
	}
	p.background = append(p.background, p.source.Run)
	p.pool.Source, p.pool.Settler = p.source, measuredSettler{p.source, r.seen.metrics}
	p.pool.Ledger = measuredLedger{p.pool.Ledger, r.seen.metrics, r.seen.tracing.Tracer()}
	p.pool.Observer = r.seen.observer()
	p.pool.Log = r.log
	p.pool.NewID = func() string { return uuid.Must(uuid.NewV7()).String() }
	p.pool.MaxPayload = func() int { return int(conn.NATS().MaxPayload()) }
	p.pool.Lease, p.pool.Now = p.source.Lease, conn.Clock().Now
	p.pool.Probe = r.opts.Probe
	return p, nil
}

// eventHeaders is kept free of the server's max payload, which counts headers too.
const eventHeaders = 1024

// bindStreams takes jobs from a stream and commits to another.
func (p *parts) bindStreams(ctx context.Context, r *replica, conn *bus.Conn) error {
	setup := bus.NewSetup(conn, r.cfg.Streams, r.cfg.Pool)
	if err := r.ensure(ctx, setup); err != nil {
		return err
	}
	store, names := bus.NewUpkeep(conn, setup), ledger.Names{Pool: r.cfg.Pool, Stream: r.cfg.Streams.Stream}
	retentions := ledger.NewRetentions(store, names, ledger.Retention{Horizon: r.cfg.Streams.ZombieHorizon, TTL: r.cfg.Streams.LedgerTTL})
	if _, err := retentions.Renew(ctx); err != nil {
		r.log.Warn().Err(err).Msg("the ledger is not swept until its retention is known, retrying")
	}
	sets := ledger.NewSets(store, ledger.SetsConfig{
		Names: names, MaxAge: r.cfg.Streams.SetMaxAge, EventTTL: r.cfg.Streams.DoneAge, EventSubject: bus.SetEventSubject,
		MaxEvent: func() int { return int(conn.NATS().MaxPayload()) - eventHeaders }, Now: conn.Clock().Now, OnEnd: r.seen.metrics.SetEnded,
	}, r.log)
	l := ledger.New(store, ledger.Config{
		Names: names, TTL: retentions.TTL, EventTTL: r.cfg.Streams.DoneAge, EventSubject: bus.EventSubject,
		Lane: ledger.Lane(r.opts.Replica), TallyTTL: r.cfg.Streams.TallyTTL(), OnSets: sets.Touched,
		OnGroup: func(g ledger.Group) { r.seen.metrics.CommitGroup(g.Batches, g.Took, g.Err) },
	}, r.log)
	p.source = bus.NewSource(conn, setup, r.log)
	p.pool.Ledger = l
	p.pool.DeadLetters = bus.NewDeadLetters(conn, r.cfg.Pool, r.log).MadeBy(setup)
	changes := bus.Changes{Reconnected: l.Invalidate, SetBack: func(at time.Time) {
		r.seen.metrics.SetBack()
		l.Restart(at)
		sets.Restart()
		p.engine.Restart()
	}}
	p.background = append(p.background, l.Run, sets.Run,
		func(ctx context.Context) error { return setup.HighWater().Run(ctx, r.log, changes) },
		ledger.NewSweeper(store, names, retentions, r.log).Run, bus.NewDueSweeper(conn, setup, r.log).Run)
	p.state = &poolState{conn: conn, read: operate.NewAdmin(conn, r.cfg.Streams, r.cfg.Pool).State}
	return nil
}

// ensure creates missing streams and consumers and reports those that differ.
func (r *replica) ensure(ctx context.Context, setup *bus.Setup) error {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	created, drift, err := ensure(ctx, setup)
	for _, object := range created {
		r.log.Info().Str("object", object).Msg("created")
	}
	for i := range drift {
		d := &drift[i]
		level := zerolog.WarnLevel
		if d.Harmless {
			level = zerolog.DebugLevel
		}
		r.log.WithLevel(level).Str("object", d.Object).Str("field", d.Field).Str("have", d.Have).Str("want", d.Want).Str("harm", d.Harm).
			Msg("differs from what Rollcall would create")
	}
	if err != nil {
		return err
	}
	return bus.Refusal(drift)
}

// bindCore takes jobs from plain subjects, at most once.
func (p *parts) bindCore(_ context.Context, r *replica, conn *bus.Conn) error {
	src, err := bus.NewCoreSource(conn, r.cfg.Streams, r.cfg.Pool, r.log)
	if err != nil {
		return err
	}
	p.source = src
	p.pool.Ledger = bus.NewCoreLedger(conn)
	p.pool.DeadLetters = bus.NewCoreDeadLetters(conn, r.cfg.Pool)
	return nil
}

func (p *parts) addServices(r *replica, conn *bus.Conn) error {
	deps := service.Deps{Conn: conn.NATS(), Heed: conn.HeedSubject, Version: r.opts.Version, RetryMax: r.cfg.Engine.RetryMax, MaxAttempts: r.cfg.Engine.MaxAttempts, Log: r.log}
	var faults []error
	for _, target := range r.cfg.Targets {
		s, err := service.New(target.Name, target.URL, target.Config, deps)
		if err != nil {
			faults = append(faults, fmt.Errorf("service %s: %w", target.Name, err))
			continue
		}
		p.services = append(p.services, s)
		p.pool.Services = append(p.pool.Services, s)
	}
	return errors.Join(faults...)
}

func (p *parts) closeServices() {
	for _, s := range p.services {
		s.Close()
	}
}
