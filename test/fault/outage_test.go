//go:build fault && linux

package fault_test

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"rollcall/internal/faulttest"
	"rollcall/internal/history"
	"rollcall/internal/jobs"
)

// outage is how long TestOutage keeps a service away.
var outage = flag.Duration("outage", 20*time.Second, "how long a service is away in TestOutage; make outage takes an hour")

const (
	// scrape is how often the outage reads the gauge of RollcallBreakerOpen, as Prometheus does.
	scrape = 15 * time.Second
	// slowest is ROLLCALL_RETRY_MAX of the outage: the last job comes back so long after its end.
	slowest = 5 * time.Minute
)

// TestOutage lets one of two services refuse every connection while 20 and while 5,000 jobs wait:
// make outage. The outage is longer than five attempts with the shipped back-off would last. No job
// may end meanwhile, what RollcallBreakerOpen looks at stands all the time, and afterwards every
// job succeeds, at its second attempt: the first is what the other service has answered.
func TestOutage(t *testing.T) {
	for _, n := range []int{20, 5000} {
		t.Run(fmt.Sprintf("%d jobs wait", n), func(t *testing.T) {
			t.Parallel()
			broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
			s := faulttest.NewScenario(t, program, broker.URL, []string{"billing", "search"})
			s.Env = s.Env.With("ROLLCALL_MAX_ATTEMPTS", "5",
				"ROLLCALL_RETRY_MIN", "1s", "ROLLCALL_RETRY_MAX", min(slowest, *outage/4).String())
			s.Setup()
			workers := []*faulttest.Worker{s.Start(), s.Start()}
			down := s.Services[0]
			down.Down()
			s.Load.Publish(n, patience)

			opened := false
			for end, look := time.Now().Add(*outage), time.Now().Add(min(scrape, *outage/4)); time.Now().Before(end); {
				faulttest.Tick(t)
				if time.Now().Before(look) {
					continue
				}
				look = look.Add(min(scrape, *outage/4))
				held := false
				for _, w := range workers {
					held = held || heldBack(w, down.Name)
				}
				if opened && !held {
					t.Error("no breaker was open any more while the service was away")
				}
				opened = opened || held
			}
			letters, err := faulttest.DeadLetters(t.Context(), s.JS)
			if err != nil {
				t.Fatal(err)
			}
			if len(letters) > 0 || !opened {
				t.Errorf("during the outage %d jobs became dead letters; a breaker was open: %t", len(letters), opened)
			}
			down.Up()

			h := s.Judge(*outage+2*slowest, history.History{})
			worst, done := 0, 0
			for _, e := range h.Events {
				for _, j := range e.Data.Jobs {
					if j.Outcome == jobs.Succeeded {
						worst, done = max(worst, j.Attempt), done+1
					}
				}
			}
			t.Logf("a service was away for %v: %d of %d jobs succeeded, at most at attempt %d", *outage, done, n, worst)
			if done != n || worst > 2 {
				t.Errorf("%d of %d jobs succeeded, at most at attempt %d; want all, at attempt 2", done, n, worst)
			}
		})
	}
}

// heldBack reports whether the replica's breaker of service is open or half-open.
func heldBack(w *faulttest.Worker, service string) bool {
	for line := range strings.Lines(w.Page("/metrics")) {
		if strings.HasPrefix(line, "rollcall_service_breaker_state{") && strings.Contains(line, `service="`+service+`"`) {
			return !strings.HasSuffix(strings.TrimSpace(line), " 0")
		}
	}
	return false
}
