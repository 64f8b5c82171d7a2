package browser_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/web"
)

// desk serves the pages of a replica whose state a test sets.
type desk struct {
	t      *testing.T
	server *httptest.Server
	addr   string

	mu     sync.Mutex
	status web.Status
	pages  int
}

// Alive implements [web.Prober].
func (d *desk) Alive() bool { return true }

// Report implements [web.Prober].
func (d *desk) Report() web.Report { return web.Report{Ready: true} }

// Status implements [web.Viewer].
func (d *desk) Status(context.Context) web.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pages++
	return d.status
}

// asked counts the pages that were served.
func (d *desk) asked() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pages
}

// change sets another state.
func (d *desk) change(f func(*web.Status)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(&d.status)
}

func (d *desk) url() string { return "http://" + d.addr + "/" }

// serve shows a state until the test ends.
func serve(t *testing.T, s web.Status) *desk {
	t.Helper()
	d := &desk{t: t, addr: "127.0.0.1:0", status: s}
	d.start()
	t.Cleanup(func() { d.server.Close() })
	return d
}

// start listens, on the same address as before if there was one.
func (d *desk) start() {
	d.t.Helper()
	listener, err := net.Listen("tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	d.addr = listener.Addr().String()
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "up 1\n") })
	d.server = httptest.NewUnstartedServer(web.Everything(d, metrics, d))
	d.server.Listener.Close()
	d.server.Listener = listener
	d.server.Start()
}

// die ends the server and every connection to it.
func (d *desk) die() {
	d.server.CloseClientConnections()
	d.server.Close()
}

var noon = time.Date(2026, 1, 2, 12, 0, 7, 0, time.UTC)

// batchID is the n-th id of a batch.
func batchID(n int) string { return fmt.Sprintf("019b7e5c-4c5e-7a1b-9d2e-%012d", n) }

// busy is a pool at work, with something of everything.
func busy() web.Status {
	seconds := make([]jobs.Tally, 300)
	for i := range seconds {
		seconds[i] = jobs.Tally{Succeeded: 180 + 40*((i/20)%3) - i%7, Dead: i % 97 / 90}
	}
	services := func(search jobs.Breaker) []jobs.ServiceState {
		return []jobs.ServiceState{
			{Name: "billing", Required: true, Breaker: "closed", InFlight: 3, Limit: 32},
			{Name: "index", Required: true, Breaker: "closed", InFlight: 7, Limit: 32, LastError: "answered 503 Service Unavailable", LastErrorAt: noon.Add(-9 * time.Minute)},
			{Name: "search", Breaker: search, Limit: 8, LastError: "dial tcp 10.0.4.17:8080: connect: connection refused", LastErrorAt: noon.Add(-12 * time.Second)},
		}
	}
	s := web.Status{
		At: noon,
		Replica: jobs.ReplicaState{
			Replica: "mail-7d9f8b-x2x4z", Pool: "mail", Version: "v1.4.0", Revision: "93dfe85ad4c1", Started: noon.Add(-50 * time.Hour),
			Phase: "working", Ready: true, HeldJobs: 768, Rate: 201.4, Success: 0.9989, Services: services("open"),
		},
		Checks:     []web.Check{{Name: "working", OK: true}, {Name: "broker", OK: true}, {Name: "consumer", OK: true}},
		PoolReadAt: noon.Add(-2 * time.Second),
		Pool: &jobs.PoolState{
			At: noon, Waiting: 48213, InFlight: 2304, Redelivered: 12, Oldest: noon.Add(-75 * time.Second), DeadLetters: 7,
			Streams: []jobs.StreamState{
				{Name: "JOBS", Messages: 50517, Bytes: 41 << 20, MaxBytes: 4 << 30, Replicas: 3, Leader: "nats-1"},
				{Name: "DONE", Messages: 91022, Bytes: 317 << 20, Replicas: 3, Leader: "nats-0"},
				{Name: "DEAD", Messages: 7, Bytes: 5321, Replicas: 3, Lagging: 1, Leader: "nats-2"},
			},
		},
		Peers: web.Peers{ReadAt: noon.Add(-3 * time.Second), Replicas: []jobs.ReplicaState{
			{Replica: "mail-7d9f8b-q8k2m", Pool: "mail", Version: "v1.4.0", Revision: "93dfe85ad4c1", Started: noon.Add(-49 * time.Hour), Phase: "working", Ready: true, HeldJobs: 768, Rate: 198.2, Success: 1, Services: services("closed")},
			{Replica: "mail-7d9f8b-tr5vv", Pool: "mail", Version: "v1.3.9", Revision: "1d259c5e0a77", Started: noon.Add(-190 * time.Hour), Phase: "draining", HeldJobs: 96, Rate: 12, Success: 1, Services: services("half-open")},
		}},
		Seconds:  seconds,
		Settings: []web.Setting{{Name: "ROLLCALL_POOL", Value: "mail", Source: "environment"}, {Name: "NATS_PASSWORD", Value: "***", Source: "file"}},
	}
	for n := range 12 {
		s.Batches = append(s.Batches, batch(n))
	}
	return s
}

// batch is a batch that ended n times 400 ms ago; every fifth is partial.
func batch(n int) jobs.BatchSummary {
	b := jobs.BatchSummary{
		ID: batchID(100 - n), Seal: jobs.SealSize, Result: jobs.BatchCommitted, Outcome: jobs.BatchSucceeded, EndedAt: noon.Add(time.Duration(-n) * 400 * time.Millisecond),
		Duration: jobs.Millis(61 * time.Millisecond), Counts: jobs.Counts{Total: 96, Succeeded: 96}, TraceID: "0af7651916cd43dd8448eb211c80319c",
		Services: []jobs.ServiceReport{{Name: "billing", OK: 96, Duration: jobs.Millis(40 * time.Millisecond)}, {Name: "index", OK: 96, Duration: jobs.Millis(52 * time.Millisecond)}},
	}
	if n%5 == 4 {
		b.Outcome, b.Counts = jobs.BatchPartial, jobs.Counts{Total: 96, Succeeded: 93, Failed: 1, Expired: 1, Retrying: 1}
		b.Services[1].Retry, b.Services[1].Error = 1, "answered 503"
	}
	return b
}

// away is busy without its broker, for two minutes.
func away() web.Status {
	s := busy()
	s.At = noon.Add(2 * time.Minute)
	s.Replica.Ready = false
	s.Checks = []web.Check{{Name: "working", OK: true}, {Name: "broker", Detail: "not connected: connection refused"}, {Name: "consumer", Detail: "unknown without the broker"}}
	s.PoolError, s.Peers.Error = "not connected to NATS", "not connected to NATS"
	return s
}

// wide is busy with names as long as they may be.
func wide() web.Status {
	s := busy()
	long := "NDQ4QXKZ3LSUUDWJ4ZLYZ6FQ2T4B5QH7YJX3XGQ2OZ4T4NQK5QW7ABCD"
	s.Replica.Replica = long[:48] + "-x1y2z3"
	s.Replica.Pool = "invoices-and-reminders_of-the-northern-hemisphere-0123456789abcd"
	s.Pool.Streams[0].Leader = long
	s.Pool.Streams[0].Name = "JOBS_" + long[:40]
	s.Pool.Waiting, s.Pool.InFlight = 12_345_678_901, 1_000_000
	s.Peers.Replicas[0].Replica = long
	s.Peers.Replicas[1].Version = "v1.4.0-0.20260102030405-0123456789abcdef"
	for i := range 8 {
		s.Replica.Services = append(s.Replica.Services, jobs.ServiceState{
			Name: fmt.Sprintf("customer-notifications-by-letter-and-telegram-of-region-%d", i), Required: true, Breaker: "closed", Limit: 10_000, InFlight: 10_000,
			LastError: "answered 500: " + long + long, LastErrorAt: noon.Add(-time.Hour),
		})
	}
	s.Batches[0].Counts = jobs.Counts{Total: 900, Succeeded: 300, Failed: 200, Expired: 200, Invalid: 100, Retrying: 100}
	s.Settings = append(s.Settings, web.Setting{Name: "ROLLCALL_SVC_CUSTOMER_NOTIFICATIONS_BY_LETTER_AND_TELEGRAM_MAX_REPLY", Value: long + long, Source: "environment"})
	return s
}
