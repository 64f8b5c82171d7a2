package app

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync"
	"time"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/pool"
	"rollcall/internal/telemetry"
	"rollcall/internal/web"
)

const (
	// stateAge is how old the state of the pool may be that a scrape or a page shows.
	stateAge = 5 * time.Second
	// stateTimeout bounds one reading of it.
	stateTimeout = 4 * time.Second
	// rateWindow is how far back the rate of a replica reaches, in seconds.
	rateWindow = 60
	// chartWindow is how far back the dashboard's chart reaches, in seconds.
	chartWindow = 300
)

// observation is everything that a replica reports of itself. It implements [web.Viewer].
type observation struct {
	replica *replica
	started time.Time
	metrics *telemetry.Metrics
	tracing *telemetry.Tracing
	log     *telemetry.LogObserver
	recent  *telemetry.Recent
	// common are the settings that the replicas of a pool should share, digest sums them up.
	common map[string]string
	digest string

	mu     sync.Mutex
	parts  *parts
	conn   *bus.Conn
	engine *pool.Pool
}

// observe begins to watch the replica.
func (r *replica) observe(ctx context.Context) (*observation, error) {
	o := &observation{replica: r, started: time.Now(), log: telemetry.NewLogObserver(r.log), recent: telemetry.NewRecent(nil)}
	services := make([]telemetry.ServiceInfo, len(r.cfg.Targets))
	for i, t := range r.cfg.Targets {
		services[i] = telemetry.ServiceInfo{Name: t.Name, Required: t.Config.Required, Timeout: t.Config.Timeout}
	}
	o.common = common(r.cfg.Effective)
	o.digest = jobs.DigestSettings(o.common)
	o.metrics = telemetry.NewMetrics(r.cfg.Pool,
		telemetry.Build{Version: r.opts.Version, Revision: r.opts.Revision, Go: runtime.Version()}, r.cfg.info(o.digest), services)
	if !r.opts.Traces {
		return o, nil
	}
	origin := telemetry.Origin{Pool: r.cfg.Pool, Replica: r.opts.Replica, Version: r.opts.Version}
	var err error
	o.tracing, err = telemetry.StartTracing(ctx, origin, r.log)
	return o, err
}

// info is the settings worth seeing beside the metrics.
func (c *Config) info(digest string) map[string]string {
	return map[string]string{
		"digest":            digest,
		"source":            c.Streams.Source,
		"batch_size":        strconv.Itoa(c.Engine.BatchSize),
		"batch_linger":      c.Engine.BatchLinger.String(),
		"batches_in_flight": strconv.Itoa(c.Engine.BatchesInFlight),
		"max_attempts":      strconv.Itoa(c.Engine.MaxAttempts),
		"ack_wait":          c.Streams.AckWait.String(),
		"drain_timeout":     c.DrainTimeout.String(),
	}
}

// observer is what the pool reports to. Traces come first: the others read what they set.
func (o *observation) observer() pool.Observers {
	chain := pool.Observers{o.log, o.metrics, o.recent}
	if o.tracing.Enabled() {
		chain = append(pool.Observers{telemetry.NewTraceObserver(o.tracing.Tracer())}, chain...)
	}
	return chain
}

// watch adds the parts once they are there.
func (o *observation) watch(p *parts, conn *bus.Conn, engine *pool.Pool) {
	o.mu.Lock()
	o.parts, o.conn, o.engine = p, conn, engine
	o.mu.Unlock()
	health := &o.replica.health
	live := telemetry.Live{
		Held:      engine.Held,
		Ready:     func() bool { return health.Report().Ready },
		Draining:  func() bool { return health.at() == draining },
		Connected: func() bool { return conn.Healthy() == nil },
		Connection: func() telemetry.Connection {
			skew, _ := conn.Clock().Skew()
			return telemetry.Connection{
				Disconnects: conn.Disconnects(), Reconnects: conn.Reconnects(), Denied: len(conn.Denied()), ClockSkew: skew,
			}
		},
		Services: p.states, Mixed: p.peers.mixed, LogDropped: o.replica.opts.LogDropped,
	}
	if p.state != nil {
		live.Broker = p.state.get
	}
	o.metrics.Attach(live)
}

// states asks every service.
func (p *parts) states() []jobs.ServiceState {
	states := make([]jobs.ServiceState, len(p.services))
	for i, s := range p.services {
		states[i] = s.State()
	}
	return states
}

// state is what the replica answers to a status request.
func (o *observation) state() jobs.ReplicaState {
	r := o.replica
	s := jobs.ReplicaState{
		Replica: r.opts.Replica, Pool: r.cfg.Pool, Version: r.opts.Version, Revision: r.opts.Revision, Started: o.started,
		Phase: r.health.at().String(), Ready: r.health.Report().Ready, Success: -1, Services: []jobs.ServiceState{},
		Settings: o.common, Digest: o.digest,
	}
	o.mu.Lock()
	p, engine := o.parts, o.engine
	o.mu.Unlock()
	if engine != nil {
		held := engine.Held()
		s.HeldJobs, s.HeldBytes = held.Jobs, held.Bytes
		s.Services = p.states()
		for i := range s.Services {
			s.Services[i].Skipped = o.recent.Skipped(s.Services[i].Name)
		}
	}
	succeeded, ended := 0, 0
	for _, second := range o.recent.Seconds(rateWindow) {
		succeeded += second.Succeeded
		ended += second.Succeeded + second.Dead
	}
	s.Rate = float64(ended) / min(max(time.Since(o.started).Seconds(), 1), rateWindow)
	if ended > 0 {
		s.Success = float64(succeeded) / float64(ended)
	}
	return s
}

// Status implements [web.Viewer].
func (o *observation) Status(context.Context) web.Status {
	status := web.Status{
		At: time.Now(), Replica: o.state(), Checks: o.replica.health.Report().Checks,
		Seconds: o.recent.Seconds(chartWindow), Batches: o.recent.Batches(), Settings: []web.Setting{},
	}
	for _, s := range o.replica.cfg.Effective {
		status.Settings = append(status.Settings, web.Setting{Name: s.Name, Value: s.Value, Source: s.Source})
	}
	o.mu.Lock()
	p := o.parts
	o.mu.Unlock()
	if p == nil {
		return status
	}
	status.Peers = p.peers.last()
	if p.state == nil {
		return status
	}
	state, readAt, err := p.state.last()
	if err != nil {
		status.PoolError = err.Error()
	}
	if !readAt.IsZero() {
		status.Pool, status.PoolReadAt = &state, readAt
	}
	return status
}

// poolState is the one reader of the state of the pool in a replica. Every caller gets a
// state that is at most [stateAge] old; a failure is remembered as long.
type poolState struct {
	conn *bus.Conn
	read func(context.Context) (jobs.PoolState, error)

	mu    sync.Mutex
	asked time.Time
	err   error
	// state is the last one that could be read, at readAt.
	state  jobs.PoolState
	readAt time.Time
}

var errAway = errors.New("not connected to NATS")

// get returns the state of the pool, or why it is not known.
func (s *poolState) get() (jobs.PoolState, error) {
	state, _, err := s.last()
	if err != nil {
		return jobs.PoolState{}, err
	}
	return state, nil
}

// last returns the last state that could be read and when that was, and an error if it cannot
// be read at the moment.
func (s *poolState) last() (state jobs.PoolState, readAt time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn.Healthy() != nil {
		return s.state, s.readAt, errAway
	}
	if !s.asked.IsZero() && time.Since(s.asked) < stateAge {
		return s.state, s.readAt, s.err
	}
	ctx, cancel := context.WithTimeout(context.Background(), stateTimeout)
	defer cancel()
	state, s.err = s.read(ctx)
	s.asked = time.Now()
	if s.err == nil {
		s.state, s.readAt = state, s.asked
	}
	return s.state, s.readAt, s.err
}
