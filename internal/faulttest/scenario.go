package faulttest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/history"
)

// seedVariable replays a run: everything a scenario chooses at random comes from the seed.
const seedVariable = "FAULT_SEED"

// Scenario is a pool in trouble: a broker reached at URL, services, workers, load, and the
// judgement at the end.
type Scenario struct {
	// URL of the broker as the workers see it.
	URL string
	// Program is the path of the worker binary.
	Program string
	// Env is what every worker is started with.
	Env Env
	// NC and JS are the test's own connection, which is not hurt.
	NC       *nats.Conn
	JS       jetstream.JetStream
	Services []*Recorder
	Load     *Load
	// Rand is seeded from the environment or by chance; the seed is in the log.
	Rand *rand.Rand

	t       testing.TB
	workers int
}

// NewScenario starts the services named and connects to the broker, with login if it asks for
// one. Leases are short, so that faults show quickly.
func NewScenario(t testing.TB, program, url string, services []string, login ...nats.Option) *Scenario {
	t.Helper()
	s := &Scenario{t: t, Program: program, URL: url, Rand: seeded(t)}
	list := make([]string, len(services))
	for i, name := range services {
		r := StartRecorder(t, name)
		s.Services = append(s.Services, r)
		list[i] = name + "=" + r.URL()
	}
	s.Env = Env{
		"NATS_URL":                   url,
		"ROLLCALL_SERVICES":          strings.Join(list, ","),
		"ROLLCALL_ACK_WAIT":          "2s",
		"ROLLCALL_RETRY_MIN":         "100ms",
		"ROLLCALL_RETRY_MAX":         "1s",
		"ROLLCALL_BATCH_SIZE":        "16",
		"ROLLCALL_BATCHES_IN_FLIGHT": "4",
		"ROLLCALL_DRAIN_TIMEOUT":     "5s",
		"ROLLCALL_LOG_FORMAT":        "console",
	}
	s.NC = Connect(t, url, login...)
	s.JS = JetStream(t, s.NC)
	return s
}

func seeded(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	if text := os.Getenv(seedVariable); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedVariable, err)
		}
	}
	t.Logf("seed %d; replay with %s=%d", seed, seedVariable, seed)
	return rand.New(rand.NewPCG(seed, seed))
}

// Setup creates streams and consumer with the worker's own command and prepares the load.
func (s *Scenario) Setup() {
	s.t.Helper()
	if out, err := s.Command(s.Env, "setup"); err != nil {
		s.t.Fatalf("worker setup: %v\n%s", err, out)
	}
	s.Load = NewLoad(s.t, s.JS, "JOBS", "jobs.test")
}

// Command runs the worker binary to its end and returns what it printed.
func (s *Scenario) Command(env Env, args ...string) (string, error) {
	cmd := exec.CommandContext(s.t.Context(), s.Program, args...)
	cmd.Env = env.list()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Start starts one more replica and waits until it is ready; pairs change its environment.
func (s *Scenario) Start(pairs ...string) *Worker {
	s.t.Helper()
	w := s.begin(s.Program, pairs)
	w.WaitReady()
	return w
}

// Begin starts one more replica and does not wait for it.
func (s *Scenario) Begin(pairs ...string) *Worker {
	s.t.Helper()
	return s.begin(s.Program, pairs)
}

// AtRest reports whether nothing is left to do right now.
func (s *Scenario) AtRest() bool { return unrest(s.t.Context(), s.JS, "JOBS", "default") == "" }

// StartCrasher starts a replica, from the test binary, that kills itself when it passes point
// for the nth time. It does not wait: the replica may be dead by then.
func (s *Scenario) StartCrasher(point string, nth int, pairs ...string) *Worker {
	s.t.Helper()
	return s.begin("", append(pairs, CrashVariable, fmt.Sprintf("%s:%d", point, nth)))
}

// StartStopper is like [Scenario.StartCrasher] for a replica that stops at the point and goes
// on when it is resumed.
func (s *Scenario) StartStopper(point string, nth int, pairs ...string) *Worker {
	s.t.Helper()
	return s.begin("", append(pairs, CrashVariable, fmt.Sprintf("%s:%d:stop", point, nth)))
}

func (s *Scenario) begin(program string, pairs []string) *Worker {
	s.t.Helper()
	s.workers++
	return StartWorker(s.t, program, fmt.Sprintf("worker%d", s.workers), s.Env.With(pairs...))
}

// Calls is every call that any service saw so far.
func (s *Scenario) Calls() []history.Call {
	var calls []history.Call
	for _, r := range s.Services {
		calls = append(calls, r.Calls()...)
	}
	return calls
}

// Judge waits until the pool is at rest and fails the test for every promise that was
// broken. h says what may be expected of this run; the rest of it is filled in.
func (s *Scenario) Judge(limit time.Duration, h history.History) *history.History {
	s.t.Helper()
	WaitRest(s.t, s.JS, "JOBS", "default", limit)
	h.AtRest = true
	s.Collect(&h)
	s.Report(&h)
	return &h
}

// Collect fills in what the run left behind so far.
func (s *Scenario) Collect(h *history.History) {
	s.t.Helper()
	h.Accepted = s.Load.Accepted()
	h.Calls = s.Calls()
	var err error
	if h.Events, err = Events(s.t.Context(), s.JS); err != nil {
		s.t.Fatal(err)
	}
	if h.DeadLetters, err = DeadLetters(s.t.Context(), s.JS); err != nil {
		s.t.Fatal(err)
	}
}

// Headers is every header of the stored events and dead letters, as lines.
func (s *Scenario) Headers() []string {
	s.t.Helper()
	var lines []string
	for stream, filter := range map[string]string{"DONE": "done.batches.>", "DEAD": "dead.>"} {
		err := readAll(s.t.Context(), s.JS, stream, filter, func(m jetstream.Msg) error {
			for name, values := range m.Headers() {
				lines = append(lines, name+": "+strings.Join(values, ", "))
			}
			return nil
		})
		if err != nil {
			s.t.Fatal(err)
		}
	}
	return lines
}

// Report fails the test for every promise that h shows broken.
func (s *Scenario) Report(h *history.History) {
	s.t.Helper()
	found := h.Violations()
	for i, v := range found {
		if i == 20 {
			s.t.Errorf("… and %d more", len(found)-i)
			break
		}
		s.t.Error(v)
	}
	for _, r := range s.Services {
		for _, key := range r.Mixed() {
			s.t.Errorf("service %s saw two bodies under idempotency key %s", r.Name, key)
		}
	}
	s.t.Logf("%d jobs accepted, %d events, %d dead letters, %d jobs called for",
		len(h.Accepted), len(h.Events), len(h.DeadLetters), len(h.Calls))
}
