package telemetry

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rollcall/internal/jobs"
)

// serviceMetrics are the series of one service.
type serviceMetrics struct {
	outcomes map[string]prometheus.Counter
	other    prometheus.Counter
	duration prometheus.Observer
	retries  prometheus.Counter
	skipped  prometheus.Counter
}

// outcomeOK is the outcome of a call that was answered; the others are the reasons of failures.
const outcomeOK = "ok"

func callOutcomes() []string {
	return []string{
		outcomeOK, jobs.ReasonTimeout, jobs.ReasonRefused, jobs.ReasonReset, jobs.ReasonDNS, jobs.ReasonTLS, jobs.ReasonHTTP4xx,
		jobs.ReasonHTTP5xx, jobs.ReasonThrottled, jobs.ReasonRedirect, jobs.ReasonTooLarge, jobs.ReasonBadResponse,
		jobs.ReasonBreakerOpen, jobs.ReasonOverload, jobs.ReasonCanceled, jobs.ReasonPanic, jobs.ReasonOther,
	}
}

func (m *Metrics) makeServices(f factory, services []ServiceInfo) {
	requests := f.counters("service_requests_total", "Calls to a service by their outcome; the tries within a call are counted as retries.", "service", "outcome")
	duration := f.NewHistogramVec(histogramOpts("service_request_duration_seconds", "Time of a call to a service, with its tries.", durations()), []string{"service"})
	retries := f.counters("service_retries_total", "Tries beyond the first within calls to a service.", "service")
	skipped := f.counters("service_skipped_jobs_total", "Jobs of committed batches that are not routed to a service.", "service")
	timeouts := f.NewGaugeVec(prometheus.GaugeOpts{Namespace: prefix, Name: "service_timeout_seconds", Help: "Time-out of one try of a call."}, []string{"service"})
	required := f.NewGaugeVec(prometheus.GaugeOpts{Namespace: prefix, Name: "service_required", Help: "Whether jobs fail or wait for a service (1), or go on without it (0)."}, []string{"service"})
	m.services = make(map[string]*serviceMetrics, len(services))
	for _, s := range services {
		timeouts.WithLabelValues(s.Name).Set(s.Timeout.Seconds())
		required.WithLabelValues(s.Name).Set(truth(s.Required))
		series := &serviceMetrics{
			outcomes: map[string]prometheus.Counter{},
			duration: duration.WithLabelValues(s.Name),
			retries:  retries.WithLabelValues(s.Name),
			skipped:  skipped.WithLabelValues(s.Name),
		}
		for _, outcome := range callOutcomes() {
			series.outcomes[outcome] = requests.WithLabelValues(s.Name, outcome)
		}
		series.other = series.outcomes[jobs.ReasonOther]
		m.services[s.Name] = series
	}
}

// Batch counts a batch; the returned function counts its end.
func (m *Metrics) Batch(ctx context.Context, b *jobs.Batch) (context.Context, func(jobs.BatchEnd)) {
	begun := time.Now()
	n, bytes := len(b.Jobs), int64(0)
	for _, j := range b.Jobs {
		bytes += j.Size()
		if j.First() {
			m.wait.Observe(since(j.Published, begun))
		}
	}
	m.batchSize.Observe(float64(n))
	m.inFlight.Add(float64(n))
	m.inFlightJobs.Add(int64(n))
	m.inFlightBytes.Add(bytes)
	seal, sealed := b.Seal, b.SealedAt
	return ctx, func(end jobs.BatchEnd) {
		m.inFlight.Sub(float64(n))
		m.inFlightJobs.Add(-int64(n))
		m.inFlightBytes.Add(-bytes)
		m.batchDuration.Observe(since(sealed, time.Now()))
		count(m.ended[end.Result][seal], 1)
		if s := end.Settlement; s != nil {
			m.settled(s)
		}
	}
}

// settled counts the jobs of a committed batch.
func (m *Metrics) settled(s *jobs.Settlement) {
	outcomes := make(map[jobs.Outcome]int, len(m.finished))
	for i := range s.Rulings {
		r := &s.Rulings[i]
		outcomes[r.Outcome]++
		if r.Outcome.Final() {
			m.duration.Observe(since(s.Batch.Jobs[i].Published, s.SettledAt))
		}
		switch {
		case r.Reason == jobs.ReasonCrashLoop:
			count(m.dead[jobs.ReasonCrashLoop], 1)
		case r.Outcome.Dead():
			count(m.dead[r.Outcome.String()], 1)
		}
	}
	for i := range s.Services {
		if series := m.services[s.Services[i].Name]; series != nil {
			count(series.skipped, s.Services[i].Skipped)
		}
	}
	for outcome, n := range outcomes {
		count(m.finished[outcome], n)
	}
}

// since is the seconds from begin to end. Clocks of two machines differ, so it may have to be
// lifted to 0.
func since(begin, end time.Time) float64 { return max(end.Sub(begin), 0).Seconds() }

// Call counts a call; the returned function counts its end.
func (m *Metrics) Call(ctx context.Context, c *jobs.Call) (context.Context, func(*jobs.CallResult)) {
	series := m.services[c.Service]
	if series == nil {
		return ctx, func(*jobs.CallResult) {}
	}
	begun := time.Now()
	return ctx, func(r *jobs.CallResult) {
		outcome := outcomeOK
		if r.Failure != nil {
			outcome = r.Failure.Reason
		}
		counter, known := series.outcomes[outcome]
		if !known {
			counter = series.other
		}
		counter.Inc()
		series.retries.Add(float64(r.Repeats))
		if r.Tries > 0 {
			series.duration.Observe(time.Since(begun).Seconds())
		}
	}
}

// Event counts n occurrences.
func (m *Metrics) Event(e jobs.Occurrence, n int) { count(m.events[e], n) }

func count(c prometheus.Counter, n int) {
	if c != nil && n > 0 {
		c.Add(float64(n))
	}
}
