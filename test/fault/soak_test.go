//go:build fault && linux

package fault_test

import (
	"flag"
	"net/http"
	"syscall"
	"testing"
	"time"

	"rollcall/internal/faulttest"
	"rollcall/internal/history"
)

// minutes is how long TestSoak runs.
var minutes = flag.Int("minutes", 0, "how long TestSoak runs; 0 leaves it out")

const (
	// round is how long load and nemesis run between two judgements.
	round = 45 * time.Second
	// replicas are what the soak keeps alive.
	replicas = 3
	// worstPause is the longest that the nemesis stops or cuts off a worker.
	worstPause = 8 * time.Second
	// soakRSS is what a worker may have resident at most, with the settings of the scenarios.
	soakRSS = 100 << 20
)

// soak is a pool under load and a seeded nemesis for a long time.
type soak struct {
	*faulttest.Scenario
	t       *testing.T
	broker  *faulttest.Broker
	proxy   *faulttest.Proxy
	workers [replicas]*faulttest.Worker
	peak    int64
}

// TestSoak runs load and a random nemesis, and judges the whole history at every pause:
// make soak MINUTES=20.
func TestSoak(t *testing.T) {
	if *minutes == 0 {
		t.Skip("left out; run it by make soak MINUTES=20")
	}
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{MaxFile: "8GB"})
	s := &soak{
		Scenario: faulttest.NewScenario(t, program, broker.URL, []string{"billing", "search"}),
		t:        t, broker: broker, proxy: newProxy(t, broker.Addr()),
	}
	s.Env = s.Env.With("ROLLCALL_ZOMBIE_HORIZON", "30s", "ROLLCALL_MAX_ATTEMPTS", "5",
		"ROLLCALL_SVC_BILLING_TIMEOUT", "2s", "ROLLCALL_SVC_SEARCH_TIMEOUT", "2s")
	for _, service := range s.Services {
		service.Answer(moody)
	}
	s.Setup()
	end := time.Now().Add(time.Duration(*minutes) * time.Minute)
	for n := 1; time.Now().Before(end); n++ {
		s.hurt(time.Now().Add(round))
		s.heal()
		h := s.Judge(5*time.Minute, history.History{Grace: worstPause + 20*time.Second})
		t.Logf("round %d: %d jobs, %d events, %d dead letters; broker %d MiB, workers at most %d MiB resident",
			n, len(h.Accepted), len(h.Events), len(h.DeadLetters), s.broker.RSS()>>20, s.peak>>20)
		if s.peak > soakRSS {
			t.Errorf("a worker had %d bytes resident, want at most %d", s.peak, soakRSS)
		}
		if t.Failed() {
			return
		}
	}
}

// moody is a service with a bad day: of a hundred calls one fails, two are refused, one hangs,
// and of each batch some jobs are to be tried again.
func moody(r faulttest.Request) faulttest.Answer {
	switch r.Number % 100 {
	case 13, 31:
		return faulttest.Answer{Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"1"}}}
	case 42:
		return faulttest.Answer{Hang: true}
	case 77:
		return faulttest.Answer{Status: http.StatusBadRequest}
	}
	n := r.Number
	return faulttest.Each(func(faulttest.Asked) string {
		if n++; n%40 == 0 {
			return "retry"
		}
		return "ok"
	})(r)
}

// hurt runs load and nemesis until then.
func (s *soak) hurt(until time.Time) {
	s.revive()
	stop := s.Load.Start(300)
	defer stop()
	for time.Now().Before(until) {
		s.strike()
		s.during(time.Duration(s.Rand.IntN(3000)) * time.Millisecond)
		s.revive()
	}
	s.proxy.Heal()
}

// during lets d pass.
func (s *soak) during(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		faulttest.Tick(s.t)
	}
}

func (s *soak) some(most time.Duration) time.Duration {
	return time.Duration(s.Rand.Int64N(int64(most)))
}

// strike hurts something.
func (s *soak) strike() {
	victim := s.workers[s.Rand.IntN(replicas)]
	switch s.Rand.IntN(11) {
	case 0, 1:
		victim.Kill()
	case 2:
		victim.Signal(syscall.SIGTERM)
	case 3:
		victim.Pause()
		s.during(s.some(worstPause))
		victim.Resume()
	case 4:
		s.broker.Kill()
		s.during(s.some(3 * time.Second))
		s.broker.Restart()
	case 5:
		s.broker.Pause()
		s.during(s.some(4 * time.Second))
		s.broker.Resume()
	case 6:
		s.proxy.Blackhole()
		s.during(s.some(worstPause))
		s.proxy.Heal()
	case 7:
		s.proxy.Blackhole(faulttest.Down)
		s.during(s.some(time.Second))
		s.proxy.Reset()
		s.proxy.Heal()
	case 8:
		s.proxy.Delay(s.some(100 * time.Millisecond))
	case 9:
		service := s.Services[s.Rand.IntN(len(s.Services))]
		service.Down()
		s.during(s.some(3 * time.Second))
		service.Up()
	case 10:
		// Nobody promises a consumer back before a replica looks; the next deliveries tell.
		if err := s.JS.DeleteConsumer(s.t.Context(), "JOBS", "default"); err != nil {
			s.t.Logf("delete the consumer: %v", err)
		}
	}
}

// revive starts replicas in place of those that ended. The first one lives behind the proxy.
func (s *soak) revive() {
	for i, w := range s.workers {
		if w != nil && w.Running() {
			s.peak = max(s.peak, w.PeakRSS())
			continue
		}
		var through []string
		if i == 0 {
			through = []string{"NATS_URL", "nats://" + s.proxy.Addr()}
		}
		s.workers[i] = s.Begin(through...)
	}
}

// heal waits until every replica is ready.
func (s *soak) heal() {
	for _, w := range s.workers {
		faulttest.Until(s.t, patience, "ready again", func() bool {
			s.revive()
			return !w.Running() || w.Ready()
		})
	}
}
