package telemetry_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/telemetry"
)

func newMetrics() *telemetry.Metrics {
	return telemetry.NewMetrics("mail", telemetry.Build{Version: "v1", Revision: "abc", Go: "go1.26"},
		map[string]string{"source": "jetstream"},
		[]telemetry.ServiceInfo{{Name: "billing", Required: true, Timeout: 10 * time.Second}, {Name: "index", Timeout: time.Second}})
}

// live is a replica at rest with something of everything.
func live() telemetry.Live {
	return telemetry.Live{
		Held:      func() jobs.Room { return jobs.Room{Jobs: 7, Bytes: 2*new(jobs.Delivery).Size() + 700} },
		Ready:     func() bool { return true },
		Draining:  func() bool { return false },
		Connected: func() bool { return true },
		Connection: func() telemetry.Connection {
			return telemetry.Connection{Disconnects: 2, Reconnects: 1, ClockSkew: -300 * time.Second}
		},
		Mixed: func() bool { return true },
		Services: func() []jobs.ServiceState {
			return []jobs.ServiceState{{Name: "billing", Breaker: jobs.BreakerOpen, InFlight: 3, Limit: 32, Misconfigured: true, LastErrorAt: time.Unix(1700000000, 0)}, {Name: "index"}}
		},
		Broker: func() (jobs.PoolState, error) {
			at := time.Unix(1_700_000_000, 0)
			return jobs.PoolState{
				At: at, Oldest: at.Add(-90 * time.Second), Waiting: 11, InFlight: 5, Delayed: 3, DeadLetters: 4,
				StoreUsed: 1, StoreLimit: 4,
				Streams: []jobs.StreamState{{Name: "JOBS", Messages: 16, Bytes: 160}, {Name: "DONE", Bytes: 30, MaxBytes: 300}},
			}, nil
		},
	}
}

// scrape returns the page as Prometheus gets it.
func scrape(t *testing.T, m *telemetry.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatalf("scrape: %d %s %v", w.Code, body, err)
	}
	return string(body)
}

// wantSeries fails unless every line stands on the page.
func wantSeries(t *testing.T, page string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(page, line+"\n") {
			name, _, _ := strings.Cut(line, "{")
			name, _, _ = strings.Cut(name, " ")
			t.Errorf("the scrape lacks %q; it has\n%s", line, grep(page, name))
		}
	}
}

func grep(page, word string) string {
	var b strings.Builder
	for line := range strings.Lines(page) {
		if strings.Contains(line, word) && !strings.HasPrefix(line, "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func TestBatchesAndJobsAreCounted(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	s := settled("b1", jobs.Succeeded, jobs.Succeeded, jobs.Failed, jobs.Retrying, jobs.Failed)
	s.Rulings[4].Reason = jobs.ReasonCrashLoop
	_, end := m.Batch(t.Context(), s.Batch)
	wantSeries(t, scrape(t, m), `rollcall_jobs_in_flight{pool="mail"} 5`)
	end(jobs.BatchEnd{Result: jobs.BatchCommitted, Settlement: s})
	lone := settled("b2", jobs.Succeeded)
	lone.Batch.Seal = jobs.SealLone
	_, end = m.Batch(t.Context(), lone.Batch)
	end(jobs.BatchEnd{Result: jobs.BatchAborted})
	wantSeries(t, scrape(t, m),
		`rollcall_jobs_in_flight{pool="mail"} 0`,
		`rollcall_jobs_finished_total{outcome="succeeded",pool="mail"} 2`,
		`rollcall_jobs_finished_total{outcome="failed",pool="mail"} 2`,
		`rollcall_jobs_finished_total{outcome="expired",pool="mail"} 0`,
		`rollcall_jobs_retried_total{pool="mail"} 1`,
		`rollcall_dlq_published_total{pool="mail",reason="failed"} 1`,
		`rollcall_dlq_published_total{pool="mail",reason="crash_loop"} 1`,
		`rollcall_batches_total{pool="mail",result="committed",trigger="size"} 1`,
		`rollcall_batches_total{pool="mail",result="aborted",trigger="lone"} 1`,
		`rollcall_batch_size_bucket{pool="mail",le="5"} 2`,
		`rollcall_job_duration_seconds_count{pool="mail"} 4`,
		`rollcall_job_duration_seconds_bucket{pool="mail",le="1"} 0`,
		`rollcall_job_duration_seconds_bucket{pool="mail",le="2.5"} 4`,
	)
}

func TestOnlyFirstDeliveriesHaveAWait(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	s := settled("b1", jobs.Succeeded, jobs.Succeeded)
	s.Batch.Jobs[0].Delivered = 4
	// The waiting time of a job from a clock ahead of ours is not known.
	s.Batch.Jobs[1].Published = time.Now().Add(time.Hour)
	play(t, m, s)
	wantSeries(t, scrape(t, m), `rollcall_job_wait_seconds_count{pool="mail"} 1`, `rollcall_job_wait_seconds_sum{pool="mail"} 0`)
}

func TestCallsAreCountedByOutcome(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	report := func(service string, r *jobs.CallResult) {
		_, end := m.Call(t.Context(), &jobs.Call{Service: service})
		end(r)
	}
	report("billing", &jobs.CallResult{Tries: 3, Repeats: 2})
	report("billing", &jobs.CallResult{Tries: 2, Repeats: 1, Failure: &jobs.Failure{Reason: jobs.ReasonHTTP5xx}})
	report("billing", &jobs.CallResult{Failure: &jobs.Failure{Reason: jobs.ReasonBreakerOpen}})
	report("billing", &jobs.CallResult{Tries: 1, Failure: &jobs.Failure{Reason: "made up"}})
	report("nobody", &jobs.CallResult{Tries: 1})
	page := scrape(t, m)
	wantSeries(t, page,
		`rollcall_service_requests_total{outcome="ok",pool="mail",service="billing"} 1`,
		`rollcall_service_requests_total{outcome="http_5xx",pool="mail",service="billing"} 1`,
		`rollcall_service_requests_total{outcome="breaker_open",pool="mail",service="billing"} 1`,
		`rollcall_service_requests_total{outcome="error",pool="mail",service="billing"} 1`,
		`rollcall_service_retries_total{pool="mail",service="billing"} 3`,
		// A call that the breaker refused took no time worth knowing.
		`rollcall_service_request_duration_seconds_count{pool="mail",service="billing"} 3`,
		`rollcall_service_timeout_seconds{pool="mail",service="index"} 1`,
	)
	if strings.Contains(page, "nobody") || strings.Contains(page, "made up") {
		t.Error("a label value came from outside of the known ones")
	}
}

func TestOccurrencesAreCounted(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	for e := jobs.Received; e <= jobs.CrashLoops; e++ {
		m.Event(e, 2)
	}
	wantSeries(t, scrape(t, m),
		`rollcall_jobs_received_total{pool="mail"} 2`,
		`rollcall_jobs_redelivered_total{pool="mail"} 2`,
		`rollcall_duplicate_jobs_total{pool="mail",reason="redelivered"} 2`,
		`rollcall_duplicate_jobs_total{pool="mail",reason="held"} 2`,
		`rollcall_duplicate_jobs_total{pool="mail",reason="lost"} 2`,
		`rollcall_commits_refused_total{pool="mail"} 2`,
		`rollcall_jobs_handed_back_total{pool="mail"} 2`,
		`rollcall_jobs_lease_lost_total{pool="mail"} 2`,
		`rollcall_panics_total{pool="mail"} 2`,
		`rollcall_lone_runs_total{pool="mail"} 2`,
		`rollcall_crash_loops_total{pool="mail"} 2`,
	)
}

func TestLiveGaugesComeWithTheParts(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	if page := scrape(t, m); strings.Contains(page, "rollcall_worker_ready") {
		t.Error("a replica that still starts has gauges of its parts")
	}
	m.Attach(live())
	_, end := m.Batch(t.Context(), settled("b1", jobs.Succeeded, jobs.Succeeded).Batch)
	defer end(jobs.BatchEnd{Result: jobs.BatchAborted})
	wantSeries(t, scrape(t, m),
		`rollcall_jobs_prefetched{pool="mail"} 5`,
		`rollcall_prefetched_bytes{pool="mail"} 700`,
		`rollcall_worker_ready{pool="mail"} 1`,
		`rollcall_draining{pool="mail"} 0`,
		`rollcall_nats_disconnects_total{pool="mail"} 2`,
		`rollcall_nats_clock_skew_seconds{pool="mail"} -300`,
		`rollcall_service_breaker_state{pool="mail",service="billing"} 2`,
		`rollcall_service_inflight_limit{pool="mail",service="billing"} 32`,
		`rollcall_service_misconfigured{pool="mail",service="billing"} 1`,
		`rollcall_service_last_error_timestamp_seconds{pool="mail",service="billing"} 1.7e+09`,
		`rollcall_service_last_error_timestamp_seconds{pool="mail",service="index"} 0`,
		`rollcall_broker_up{pool="mail"} 1`,
		`rollcall_consumer_pending{pool="mail"} 11`,
		`rollcall_jobs_delayed{pool="mail"} 3`,
		`rollcall_consumer_oldest_age_seconds{pool="mail"} 90`,
		`rollcall_dlq_messages{pool="mail"} 4`,
		`rollcall_stream_messages{pool="mail",stream="JOBS"} 16`,
		`rollcall_store_used_bytes{pool="mail"} 1`,
		`rollcall_store_used_ratio{pool="mail"} 0.25`,
		`rollcall_stream_limit_bytes{pool="mail",stream="DONE"} 300`,
		`rollcall_pool_mixed{pool="mail"} 1`,
		`rollcall_service_required{pool="mail",service="billing"} 1`,
		`rollcall_service_required{pool="mail",service="index"} 0`,
	)
	if page := scrape(t, m); strings.Contains(page, `stream_limit_bytes{pool="mail",stream="JOBS"}`) {
		t.Error("a stream without a limit has one")
	}
}

// TestWithoutALimitThereIsNoRatio: 0 would say that the store is empty.
func TestWithoutALimitThereIsNoRatio(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	l := live()
	l.Broker = func() (jobs.PoolState, error) { return jobs.PoolState{StoreUsed: 9 << 30}, nil }
	m.Attach(l)
	page := scrape(t, m)
	if strings.Contains(page, "rollcall_store_used_ratio{") {
		t.Errorf("without a limit the ratio is %s", grep(page, "store_used_ratio"))
	}
	wantSeries(t, page, `rollcall_store_used_bytes{pool="mail"} 9.663676416e+09`)
}

func TestAnAbsentBrokerLeavesNoOldNumbers(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	l := live()
	l.Broker = func() (jobs.PoolState, error) { return jobs.PoolState{}, errors.New("no answer") }
	m.Attach(l)
	page := scrape(t, m)
	wantSeries(t, page, `rollcall_broker_up{pool="mail"} 0`)
	if strings.Contains(page, "rollcall_consumer_pending") {
		t.Error("a backlog of 0 is claimed though nobody could be asked")
	}
	l.Broker = nil
	m.Attach(l)
	if page := scrape(t, m); strings.Contains(page, "rollcall_broker_up") {
		t.Error("core mode has no stream to ask for")
	}
}

func TestAcksAreCountedAndTheirErrorsPassedOn(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	gone := errors.New("gone")
	for _, kind := range []telemetry.Ack{telemetry.Acked, telemetry.Nacked, telemetry.InProgress} {
		if err := m.Ack(kind, 1, nil); err != nil {
			t.Errorf("a sent %s: %v", kind, err)
		}
		if err := m.Ack(kind, 1, gone); !errors.Is(err, gone) {
			t.Errorf("a failed %s: %v, want %v", kind, err, gone)
		}
	}
	for _, kind := range []string{"ack", "nak", "progress"} {
		wantSeries(t, scrape(t, m),
			`rollcall_acks_total{kind="`+kind+`",pool="mail",result="sent"} 1`,
			`rollcall_acks_total{kind="`+kind+`",pool="mail",result="failed"} 1`)
	}
}

func TestCommitGroups(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	m.CommitGroup(8, 3*time.Millisecond, nil)
	m.CommitGroup(8, time.Millisecond, errors.New("refused"))
	wantSeries(t, scrape(t, m),
		`rollcall_commit_groups_total{pool="mail",result="stored"} 1`,
		`rollcall_commit_groups_total{pool="mail",result="refused"} 1`,
		`rollcall_commit_group_batches_sum{pool="mail"} 8`,
		`rollcall_commit_group_seconds_count{pool="mail"} 2`)
}

// TestNoMemoryPerJob holds the hot path: what a batch costs must not grow with its jobs.
func TestNoMemoryPerJob(t *testing.T) {
	m := newMetrics()
	perBatch := func(n int) float64 {
		outcomes := make([]jobs.Outcome, n)
		for i := range outcomes {
			outcomes[i] = jobs.Succeeded
		}
		s := settled("b1", outcomes...)
		ctx := t.Context()
		return testing.AllocsPerRun(100, func() {
			m.Event(jobs.Received, n)
			_, end := m.Batch(ctx, s.Batch)
			end(jobs.BatchEnd{Result: jobs.BatchCommitted, Settlement: s})
			for range s.Batch.Jobs {
				_ = m.Ack(telemetry.Acked, 1, nil)
			}
		})
	}
	if small, large := perBatch(1), perBatch(500); large > small+2 {
		t.Errorf("a batch of 1 allocates %v times, one of 500 %v times", small, large)
	}
}

func TestPromtoolFindsNoFault(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed; it comes with Debian's package prometheus")
	}
	m := newMetrics()
	m.Attach(live())
	play(t, m, settled("b1", jobs.Succeeded))
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(scrape(t, m))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
