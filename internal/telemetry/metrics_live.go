package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rollcall/internal/jobs"
)

// Live has the functions that every scrape calls. All functions may be called
// from any goroutine; Broker may be nil, where there is no stream, and LogDropped.
type Live struct {
	Held     func() jobs.Room
	Ready    func() bool
	Draining func() bool
	// Connected reports whether a NATS server is there; Connection counts disconnects since the start.
	Connected  func() bool
	Connection func() Connection
	Services   func() []jobs.ServiceState
	// LogDropped counts the lines of the log that were lost; nil where none can be.
	LogDropped func() uint64
	// Mixed reports whether replicas of the pool have different settings.
	Mixed func() bool
	// Broker returns what the broker knew of the pool a moment ago. It caches.
	Broker func() (jobs.PoolState, error)
}

// Connection counts what happened to the connection to NATS.
type Connection struct {
	Disconnects, Reconnects uint64
	// Denied is how many subjects the server refused.
	Denied int
	// ClockSkew is how far the broker's clock is ahead of this machine's.
	ClockSkew time.Duration
}

// liveCollector reads [Live] at a scrape.
type liveCollector struct {
	m     *Metrics
	all   []*prometheus.Desc
	names map[string]*prometheus.Desc
}

func newLiveCollector(m *Metrics) *liveCollector {
	c := &liveCollector{m: m, names: map[string]*prometheus.Desc{}}
	for _, d := range []struct {
		name, help string
		labels     []string
	}{
		{"jobs_delayed", "Jobs of all pools that wait until they are due; missing where that is not known.", nil},
		{"jobs_prefetched", "Jobs held by this replica that are not in a batch at work yet.", nil},
		{"prefetched_bytes", "Bytes of the jobs held by this replica that are not in a batch at work yet.", nil},
		{"worker_ready", "Whether this replica takes jobs.", nil},
		{"draining", "Whether this replica takes no more jobs and finishes what it holds.", nil},
		{"nats_connected", "Whether this replica is connected to NATS.", nil},
		{"nats_disconnects_total", "Connections to NATS that broke.", nil},
		{"nats_reconnects_total", "Connections to NATS that were made again.", nil},
		{"nats_denied_subjects", "Subjects that the NATS user of this replica may not use and should.", nil},
		{"nats_clock_skew_seconds", "How far the broker's clock is ahead of this machine's; relative times go by the broker's.", nil},
		{"log_lines_dropped_total", "Lines of the log that were lost because nobody read them fast enough.", nil},
		{"pool_mixed", "Whether the replicas of the pool have different services or settings, as far as this one can see.", nil},
		{"service_inflight", "Calls to a service under way.", []string{"service"}},
		{"service_inflight_limit", "Calls to a service that may be under way at once.", []string{"service"}},
		{"service_breaker_state", "Breaker of a service: 0 closed, 1 half-open, 2 open.", []string{"service"}},
		{"service_misconfigured", "Whether the breaker of a service is not closed because the service, or its settings here, are set up wrongly.", []string{"service"}},
		{"service_last_error_timestamp_seconds", "When the latest request to a service failed; 0 = none since the start.", []string{"service"}},
		{"broker_up", "Whether the broker could be asked for the state of the pool.", nil},
		{"consumer_pending", "Jobs of the pool that were never delivered.", nil},
		{"consumer_ack_pending", "Jobs of the pool that were delivered and are not settled, those waiting out a back-off included.", nil},
		{"consumer_redelivered", "Jobs of the pool that were delivered more than once and are not settled.", nil},
		{"consumer_waiting_pulls", "Requests for jobs that wait at the broker.", nil},
		{"consumer_paused", "Whether the consumer of the pool is paused.", nil},
		{"consumer_oldest_age_seconds", "Age of the oldest job of the pool that is not settled; 0 if there is none.", nil},
		{"stream_stuck_messages", "Jobs that match the pool's subjects and are neither pending nor delivered.", nil},
		{"dlq_messages", "Dead letters of the pool.", nil},
		{"stream_messages", "Messages in a stream.", []string{"stream"}},
		{"stream_bytes", "Bytes of a stream.", []string{"stream"}},
		{"stream_replicas_lagging", "Replicas of a stream that are offline or behind.", []string{"stream"}},
		{"stream_limit_bytes", "Most bytes that a stream may hold; missing for a stream without a limit.", []string{"stream"}},
		{"store_used_bytes", "JetStream storage that the account uses.", nil},
		{"store_used_ratio", "Part of the account's JetStream storage in use; missing for an account without a limit.", nil},
	} {
		desc := prometheus.NewDesc(prometheus.BuildFQName(prefix, "", d.name), d.help, d.labels, nil)
		c.names[d.name] = desc
		c.all = append(c.all, desc)
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *liveCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.all {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *liveCollector) Collect(out chan<- prometheus.Metric) {
	live := c.m.live.Load()
	if live == nil {
		return
	}
	s := scrape{c, out}
	held := live.Held()
	s.gauge("jobs_prefetched", float64(max(int64(held.Jobs)-c.m.inFlightJobs.Load(), 0)))
	s.gauge("prefetched_bytes", float64(max(held.Bytes-c.m.inFlightBytes.Load(), 0)))
	s.gauge("worker_ready", truth(live.Ready()))
	s.gauge("draining", truth(live.Draining()))
	s.gauge("nats_connected", truth(live.Connected()))
	connection := live.Connection()
	s.counter("nats_disconnects_total", connection.Disconnects)
	s.counter("nats_reconnects_total", connection.Reconnects)
	s.gauge("nats_denied_subjects", float64(connection.Denied))
	s.gauge("nats_clock_skew_seconds", connection.ClockSkew.Seconds())
	if live.LogDropped != nil {
		s.counter("log_lines_dropped_total", live.LogDropped())
	}
	s.gauge("pool_mixed", truth(live.Mixed()))
	for _, service := range live.Services() {
		s.gauge("service_inflight", float64(service.InFlight), service.Name)
		s.gauge("service_inflight_limit", float64(service.Limit), service.Name)
		s.gauge("service_misconfigured", truth(service.Misconfigured), service.Name)
		s.gauge("service_last_error_timestamp_seconds", seconds(service.LastErrorAt), service.Name)
		s.gauge("service_breaker_state", float64(service.Breaker.Level()), service.Name)
	}
	if live.Broker == nil {
		return
	}
	state, err := live.Broker()
	s.gauge("broker_up", truth(err == nil))
	if err == nil {
		s.pool(&state)
	}
}

// scrape sends the metrics of one scrape.
type scrape struct {
	c   *liveCollector
	out chan<- prometheus.Metric
}

func (s scrape) gauge(name string, v float64, labels ...string) {
	s.out <- prometheus.MustNewConstMetric(s.c.names[name], prometheus.GaugeValue, v, labels...)
}

func (s scrape) counter(name string, v uint64) {
	s.out <- prometheus.MustNewConstMetric(s.c.names[name], prometheus.CounterValue, float64(v))
}

func (s scrape) pool(state *jobs.PoolState) {
	s.gauge("consumer_pending", float64(state.Waiting))
	s.gauge("consumer_ack_pending", float64(state.InFlight))
	if state.Delayed >= 0 {
		s.gauge("jobs_delayed", float64(state.Delayed))
	}
	s.gauge("consumer_redelivered", float64(state.Redelivered))
	s.gauge("consumer_waiting_pulls", float64(state.Pulls))
	s.gauge("consumer_paused", truth(state.PausedUntil.After(time.Now())))
	s.gauge("consumer_oldest_age_seconds", state.OldestAge().Seconds())
	if state.Stuck >= 0 {
		s.gauge("stream_stuck_messages", float64(state.Stuck))
	}
	s.gauge("dlq_messages", float64(state.DeadLetters))
	for _, stream := range state.Streams {
		s.gauge("stream_messages", float64(stream.Messages), stream.Name)
		s.gauge("stream_bytes", float64(stream.Bytes), stream.Name)
		if stream.MaxBytes > 0 {
			s.gauge("stream_limit_bytes", float64(stream.MaxBytes), stream.Name)
		}
		s.gauge("stream_replicas_lagging", float64(stream.Lagging), stream.Name)
	}
	s.gauge("store_used_bytes", float64(state.StoreUsed))
	if state.StoreLimit > 0 {
		s.gauge("store_used_ratio", float64(state.StoreUsed)/float64(state.StoreLimit))
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds is a time as Prometheus has it; 0 for none.
func seconds(at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return float64(at.UnixMilli()) / 1000
}
