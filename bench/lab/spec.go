// Package lab runs one measurement of one contender: a fresh broker, fresh services and one
// or more replicas, each a process of its own on the loopback interface, jobs laid out in a
// file stream, and the clock started once everybody is ready.
package lab

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"rollcall/internal/jobs"
)

// Spec says what to measure.
type Spec struct {
	// Jobs to work on; 0 measures an idle replica for Idle.
	Jobs int `json:"jobs"`
	// Payload is the size of a job's body in bytes, Body what it is.
	Payload int  `json:"payload"`
	Body    Body `json:"body"`
	// Subjects is how many subjects the jobs are spread over, jobs.bench.0 and on, and Keys how
	// many values of [KeyHeader]; SetSize is how many jobs are in a set. 0 = none of these.
	Subjects int `json:"subjects"`
	Keys     int `json:"keys"`
	SetSize  int `json:"set_size"`
	// Batch is the most jobs in a batch, InFlight the most batches a replica holds at once.
	Batch    int           `json:"batch"`
	InFlight int           `json:"in_flight"`
	Linger   time.Duration `json:"linger_ns"`
	Replicas int           `json:"replicas"`
	// Nodes of the broker; with 3 every stream has three replicas. Synced makes each node sync
	// every write to the disk before it is confirmed.
	Nodes    int  `json:"nodes"`
	Synced   bool `json:"synced"`
	Services int  `json:"services"`
	// Requests sends each job in a request of its own (the format plain), at most so many to a
	// service at once; 0 = one request for a batch.
	Requests int `json:"requests"`
	// Delay is what a service takes, give or take Jitter.
	Delay  time.Duration `json:"delay_ns"`
	Jitter time.Duration `json:"jitter_ns"`
	// RetryShare of the jobs need a second attempt.
	RetryShare float64 `json:"retry_share"`
	// Rate publishes the jobs evenly, per second, while the replicas work; 0 = all jobs wait
	// in the stream before the clock starts.
	Rate float64 `json:"rate"`
	// Burst publishes so many jobs at once, at the same rate over all; 0 and 1 = one by one.
	Burst int `json:"burst"`
	// Idle is how long an idle replica is watched.
	Idle time.Duration `json:"idle_ns"`
	// Ledger is how many records of another pool lie in the ledger before the start.
	Ledger int `json:"ledger"`
	// Keep makes the job stream keep what is acked (limits retention); the lab purges what is
	// settled instead, as a sweep would.
	Keep bool `json:"keep"`
	// Settings are further ones of the worker, NAME=VALUE.
	Settings []string `json:"settings"`
	// PageSize is how many jobs share a ledger page; 0 = as many as in the worker that is shipped.
	PageSize int `json:"page_size"`
}

// streamReplicas is how many replicas each stream has.
func (s Spec) streamReplicas() int { return max(s.Nodes, 1) }

// Result is what one measurement showed. CPU figures are microseconds of processor time per
// job; worker figures are those of all replicas together.
type Result struct {
	Jobs          int     `json:"jobs"`
	Seconds       float64 `json:"seconds"`
	JobsPerSecond float64 `json:"jobs_per_second"`
	WorkerCPU     float64 `json:"worker_cpu_us"`
	BrokerCPU     float64 `json:"broker_cpu_us"`
	ServicesCPU   float64 `json:"services_cpu_us"`
	// PeakRSS is that of the largest replica, in bytes, BrokerRSS that of the broker.
	PeakRSS   int64 `json:"peak_rss"`
	BrokerRSS int64 `json:"broker_rss"`
	// Batches is how many events were stored, Commits in how many atomic publishes.
	Batches int `json:"batches"`
	Commits int `json:"commits"`
	// P50 and P99 are milliseconds from publish to event, measured with a Rate only.
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	// IdleCPU is the percentage of one core that an idle replica uses.
	IdleCPU float64 `json:"idle_cpu_percent"`
}

// BatchesPerCommit is how many batches shared one atomic publish; 0 when none was atomic.
func (r Result) BatchesPerCommit() float64 {
	if r.Commits == 0 {
		return 0
	}
	return float64(r.Batches) / float64(r.Commits)
}

// Body is what the body of a job is.
type Body string

// The kinds of bodies: a JSON object, the zero value; text that is no JSON; and bytes that are no text.
const (
	BodyJSON   Body = ""
	BodyText   Body = "text"
	BodyBinary Body = "binary"
)

// KeyHeader is the header that names a job's key.
const KeyHeader = "Bench-Key"

// message returns the n-th job as it is published.
func (s *Spec) message(n int) *nats.Msg {
	m := &nats.Msg{Subject: jobSubject, Data: Payload(n, s.Payload)}
	switch s.Body {
	case BodyText:
		m.Data[0] = '-'
	case BodyBinary:
		m.Data[0] = 0xff
	default:
	}
	if s.Subjects > 0 {
		m.Subject += "." + strconv.Itoa(n%s.Subjects)
	}
	if s.Keys > 0 || s.SetSize > 0 {
		m.Header = nats.Header{}
	}
	if s.Keys > 0 {
		m.Header.Set(KeyHeader, strconv.Itoa(n%s.Keys))
	}
	if s.SetSize > 0 {
		m.Header.Set(jobs.HeaderSet, "set-"+strconv.Itoa(n/s.SetSize))
		m.Header.Set(jobs.HeaderSetSize, strconv.Itoa(min(s.SetSize, s.Jobs-n/s.SetSize*s.SetSize)))
	}
	return m
}

// Payload returns the body of the n-th job: a JSON object such as a shop would publish, of
// the given size where that is large enough to hold one.
func Payload(n, size int) []byte {
	body := fmt.Appendf(nil, `{"order":%d,"customer":"c-%d","total":%d.50,"note":"`, n, n%977, n%500)
	const end = `"}`
	for i := 0; len(body)+len(end) < size; i++ {
		body = append(body, "the quick brown fox jumps over the lazy dog "[i%44])
	}
	return append(body, end...)
}

// poolEvent is what verification needs of a completion event.
type poolEvent struct {
	Data struct {
		Jobs []struct {
			UID     string `json:"uid"`
			Outcome string `json:"outcome"`
		} `json:"jobs"`
	} `json:"data"`
}

func decodePoolEvent(b []byte) (poolEvent, error) {
	var e poolEvent
	if err := json.Unmarshal(b, &e); err != nil {
		return e, fmt.Errorf("decode a completion event: %w", err)
	}
	return e, nil
}
