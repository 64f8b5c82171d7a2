package telemetry

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"rollcall/internal/jobs"
)

// scrapeTimeout bounds what a scrape may wait for the broker. It stays under the 10 s that
// Prometheus waits by default.
const scrapeTimeout = 8 * time.Second

// Build names the program in rollcall_build_info.
type Build struct{ Version, Revision, Go string }

// ServiceInfo is the part of a service's settings that is measured against.
type ServiceInfo struct {
	Name     string
	Required bool
	Timeout  time.Duration
}

// Metrics counts what a replica does, in a registry of its own. It implements the pool's
// Observer. Every label value is known when it is made, and every series that a job passes is
// looked up then: counting a job costs additions, no search and no memory.
type Metrics struct {
	registry *prometheus.Registry
	live     atomic.Pointer[Live]

	events map[jobs.Occurrence]prometheus.Counter
	// finished is by outcome; that of Retrying is a metric of its own.
	finished map[jobs.Outcome]prometheus.Counter
	dead     map[string]prometheus.Counter

	inFlight      prometheus.Gauge
	inFlightJobs  atomic.Int64
	inFlightBytes atomic.Int64
	wait          prometheus.Histogram
	duration      prometheus.Histogram

	ended         map[jobs.BatchResult]map[jobs.Seal]prometheus.Counter
	batchSize     prometheus.Histogram
	batchDuration prometheus.Histogram
	batchCommit   prometheus.Histogram

	services map[string]*serviceMetrics
	acks     map[Ack]acks

	sets map[jobs.SetOutcome]prometheus.Counter

	setBack prometheus.Counter

	groupBatches  prometheus.Histogram
	groupDuration prometheus.Histogram
	groupResults  map[bool]prometheus.Counter
}

// NewMetrics returns metrics with the constant label pool and a series for each of services.
// info are the settings worth seeing beside the numbers.
func NewMetrics(pool string, build Build, info map[string]string, services []ServiceInfo) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	own := prometheus.WrapRegistererWith(prometheus.Labels{"pool": pool}, m.registry)
	f := factory{promauto.With(own)}
	f.info("build_info", "The program; always 1.", prometheus.Labels{"version": build.Version, "revision": build.Revision, "goversion": build.Go})
	f.info("config_info", "Settings of this replica; always 1.", info)
	m.makeJobs(f)
	m.makeBatches(f)
	m.makeSets(f)
	m.makeServices(f, services)
	own.MustRegister(newLiveCollector(m))
	return m
}

// Attach adds the gauges that are read at every scrape.
func (m *Metrics) Attach(live Live) { m.live.Store(&live) }

// Registry is where the metrics are gathered from.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Handler serves the metrics to Prometheus, in any format it asks for.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		Timeout: scrapeTimeout, MaxRequestsInFlight: 4, EnableOpenMetrics: true,
	})
}

// factory makes metrics with the prefix of the program.
type factory struct{ promauto.Factory }

const prefix = "rollcall"

// durations are the buckets of the OpenTelemetry semantic conventions, and two more.
func durations() []float64 {
	return []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 30, 60}
}

func (f factory) counter(name, help string) prometheus.Counter {
	return f.NewCounter(prometheus.CounterOpts{Namespace: prefix, Name: name, Help: help})
}

func (f factory) gauge(name, help string) prometheus.Gauge {
	return f.NewGauge(prometheus.GaugeOpts{Namespace: prefix, Name: name, Help: help})
}

func (f factory) counters(name, help string, labels ...string) *prometheus.CounterVec {
	return f.NewCounterVec(prometheus.CounterOpts{Namespace: prefix, Name: name, Help: help}, labels)
}

func (f factory) info(name, help string, labels prometheus.Labels) {
	f.NewGauge(prometheus.GaugeOpts{Namespace: prefix, Name: name, Help: help, ConstLabels: labels}).Set(1)
}

func (f factory) histogram(name, help string, buckets []float64) prometheus.Histogram {
	return f.NewHistogram(histogramOpts(name, help, buckets))
}

// histogramOpts describes a classic histogram that is a native one too, for a Prometheus that
// asks for that: a factor of 1.1 between buckets, and a bound on their number.
func histogramOpts(name, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Namespace: prefix, Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
	}
}

func (m *Metrics) makeJobs(f factory) {
	duplicates := f.counters("duplicate_jobs_total", "Deliveries of jobs that needed no work: already final in the ledger (redelivered), held by this replica (held), or finished by another replica first (lost).", "reason")
	m.events = map[jobs.Occurrence]prometheus.Counter{
		jobs.Received:             f.counter("jobs_received_total", "Deliveries received."),
		jobs.Redelivered:          f.counter("jobs_redelivered_total", "Deliveries of jobs that had been delivered before."),
		jobs.DuplicateRedelivered: duplicates.WithLabelValues("redelivered"),
		jobs.DuplicateHeld:        duplicates.WithLabelValues("held"),
		jobs.DuplicateLost:        duplicates.WithLabelValues("lost"),
		jobs.CommitRefused:        f.counter("commits_refused_total", "Batches that were rebuilt because another replica had finished some of their jobs."),
		jobs.HandedBack:           f.counter("jobs_handed_back_total", "Jobs given back unstarted by a drain."),
		jobs.LeaseLost:            f.counter("jobs_lease_lost_total", "Jobs let go because their lease could not be renewed."),
		jobs.Panics:               f.counter("panics_total", "Panics recovered in calls."),
		jobs.LoneRuns:             f.counter("lone_runs_total", "Calls for groups of suspects: jobs that may be crashing their workers."),
		jobs.Unburied:             f.counter("dlq_refused_total", "Jobs that failed and wait, because their dead letters cannot be stored."),
		jobs.Waited:               f.counter("jobs_waited_total", "Jobs given back without an event, because a service holds them back."),
		jobs.CrashLoops:           f.counter("crash_loops_total", "Jobs failed because they seem to crash their workers."),
	}
	finished := f.counters("jobs_finished_total", "Jobs that are final in a committed event, by outcome.", "outcome")
	m.finished = map[jobs.Outcome]prometheus.Counter{}
	for _, o := range []jobs.Outcome{jobs.Succeeded, jobs.Failed, jobs.Expired, jobs.Invalid, jobs.Cancelled} {
		m.finished[o] = finished.WithLabelValues(o.String())
	}
	m.finished[jobs.Retrying] = f.counter("jobs_retried_total", "Jobs given back for another attempt by a committed event.")
	dead := f.counters("dlq_published_total", "Dead letters of committed batches, by reason.", "reason")
	m.dead = map[string]prometheus.Counter{}
	for _, reason := range []string{jobs.Failed.String(), jobs.Expired.String(), jobs.Invalid.String(), jobs.ReasonCrashLoop} {
		m.dead[reason] = dead.WithLabelValues(reason)
	}
	m.inFlight = f.gauge("jobs_in_flight", "Jobs in batches that this replica works on.")
	// No native buckets here: finding one costs memory for every job.
	m.wait = f.NewHistogram(prometheus.HistogramOpts{Namespace: prefix, Name: "job_wait_seconds", Help: "Time from the publication of a job to its first dispatch.", Buckets: durations()})
	m.duration = f.NewHistogram(prometheus.HistogramOpts{Namespace: prefix, Name: "job_duration_seconds", Help: "Time from the publication of a job to the event it is final in.", Buckets: durations()})
	total := f.counters("acks_total", "Answers to the broker about deliveries, by kind and whether they could be sent.", "kind", "result")
	m.acks = map[Ack]acks{}
	for _, kind := range []Ack{Acked, Nacked, InProgress} {
		m.acks[kind] = acks{total.WithLabelValues(string(kind), "sent"), total.WithLabelValues(string(kind), "failed")}
	}
}

func (m *Metrics) makeBatches(f factory) {
	batches := f.counters("batches_total", "Batches that ended, by result and by what sealed them.", "result", "trigger")
	m.ended = map[jobs.BatchResult]map[jobs.Seal]prometheus.Counter{}
	for _, result := range []jobs.BatchResult{jobs.BatchCommitted, jobs.BatchSuperseded, jobs.BatchWaiting, jobs.BatchAborted} {
		m.ended[result] = map[jobs.Seal]prometheus.Counter{}
		for _, seal := range []jobs.Seal{jobs.SealSize, jobs.SealBytes, jobs.SealLinger, jobs.SealIdle, jobs.SealDrain, jobs.SealLone} {
			m.ended[result][seal] = batches.WithLabelValues(string(result), string(seal))
		}
	}
	m.batchSize = f.histogram("batch_size", "Jobs in a batch at its seal.", []float64{1, 2, 5, 10, 25, 50, 100, 250, 500, 900})
	m.batchDuration = f.histogram("batch_duration_seconds", "Time from the seal of a batch to its end.", durations())
	m.batchCommit = f.histogram("batch_commit_seconds", "Time a batch waited for its commit.", durations())
	m.setBack = f.counter("broker_set_back_total", "Times that the broker's data was found to be older than what this replica had seen of it.")
	m.groupBatches = f.histogram("commit_group_batches", "Batches committed by one atomic publish.", []float64{1, 2, 3, 4, 6, 8, 12, 16, 32, 64})
	m.groupDuration = f.histogram("commit_group_seconds", "Time of one atomic publish, accepted or not.", durations())
	results := f.counters("commit_groups_total", "Atomic publishes, by result; a refused one is split and tried again.", "result")
	m.groupResults = map[bool]prometheus.Counter{true: results.WithLabelValues("stored"), false: results.WithLabelValues("refused")}
}

func (m *Metrics) makeSets(f factory) {
	sets := f.counters("sets_finished_total", "Sets that this replica ended, by outcome.", "outcome")
	m.sets = map[jobs.SetOutcome]prometheus.Counter{}
	for _, o := range []jobs.SetOutcome{jobs.SetSucceeded, jobs.SetFailed, jobs.SetPartial, jobs.SetAbandoned} {
		m.sets[o] = sets.WithLabelValues(string(o))
	}
}

// SetEnded counts a set that this replica ended.
func (m *Metrics) SetEnded(_ string, outcome jobs.SetOutcome, _ int) { m.sets[outcome].Inc() }

// SetBack counts that the broker's data was found to be set back.
func (m *Metrics) SetBack() { m.setBack.Inc() }

// CommitGroup counts one atomic publish of so many batches.
func (m *Metrics) CommitGroup(batches int, took time.Duration, err error) {
	m.groupResults[err == nil].Inc()
	m.groupDuration.Observe(took.Seconds())
	if err == nil {
		m.groupBatches.Observe(float64(batches))
	}
}
