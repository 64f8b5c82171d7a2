//go:build fault && linux

package fault_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"rollcall/internal/faulttest"
)

// container is the limit of memory that the settings as they are by default must fit into.
const container = 256 << 20

// confined is a worker under the limit.
type confined struct {
	*faulttest.Worker
	// enforced is false where no limit can be set; the peak is measured then.
	enforced bool
}

// limited starts a worker under the limit.
func limited(t *testing.T, s *faulttest.Scenario) *confined {
	t.Helper()
	for name := range s.Env { // the settings as they are by default, under which the bound is promised
		if strings.HasPrefix(name, "ROLLCALL_") && name != "ROLLCALL_SERVICES" && name != "ROLLCALL_LOG_FORMAT" {
			delete(s.Env, name)
		}
	}
	group, ok := faulttest.LimitMemory(t, container)
	if ok {
		s.Program = group.Program(program)
	} else {
		t.Log("NOT ENFORCED: a memory limit needs a cgroup that this user may make; the peak is measured instead")
	}
	w := s.Start()
	return &confined{Worker: w, enforced: ok}
}

// fits fails the test if the worker died, or would have at the limit. What is resident counts
// more than the limit does: it holds pages of the binary, which are shared.
func fits(t *testing.T, w *confined) {
	t.Helper()
	if !w.Running() {
		t.Fatalf("the worker died of %v under a limit of %d MiB", w.KilledBy(), container>>20)
	}
	peak := w.PeakRSS()
	t.Logf("at most %d MiB resident", peak>>20)
	if peak > container && !w.enforced {
		t.Errorf("the worker had %d MiB resident, want at most %d", peak>>20, container>>20)
	}
}

// TestMemoryOfLargeHeaders: 1,500 jobs of two bytes with headers of 60 KiB, and services that let
// them wait: what is held must be counted with its headers.
func TestMemoryOfLargeHeaders(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing", "search", "mail"})
	for _, service := range s.Services {
		service.Answer(func(faulttest.Request) faulttest.Answer { return faulttest.Answer{Wait: 300 * time.Millisecond} })
	}
	s.Setup()
	m := nats.NewMsg("jobs.test")
	m.Data = []byte("{}")
	for i := range 60 {
		m.Header.Set(fmt.Sprint("Large-", i), strings.Repeat("h", 1000))
	}
	for range 1500 {
		s.Load.Send(m, patience)
	}
	w := limited(t, s)
	faulttest.WaitRest(t, s.JS, "JOBS", "default", 3*patience)
	fits(t, w)
}

// TestMemoryOfLargeReplies: replies of a megabyte that hold hundreds of thousands of entries.
func TestMemoryOfLargeReplies(t *testing.T) {
	t.Parallel()
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing", "search", "mail"})
	body := `{"results":[{}` + strings.Repeat(`,{}`, 340_000) + `]}`
	for _, service := range s.Services {
		service.Answer(func(faulttest.Request) faulttest.Answer { return faulttest.Answer{Body: body} })
	}
	s.Setup()
	s.Load.Publish(3000, patience)
	w := limited(t, s)
	// No more than a few at a time: the breaker opens for a service whose replies cannot be read.
	faulttest.Until(t, patience, "many such replies were read", func() bool {
		return !w.Running() || s.Services[0].Count() >= 16
	})
	fits(t, w)
}

// openJobs is how many jobs TestMemoryOfManyOpenJobs keeps open.
var openJobs = flag.Int("open-jobs", 40_000, "how many jobs TestMemoryOfManyOpenJobs keeps open; 270000 take minutes")

// TestMemoryOfManyOpenJobs: a long queue of jobs that one of sixteen services, all of them with
// long names, wants to see again: the ledger holds a page for each sixteen of them.
func TestMemoryOfManyOpenJobs(t *testing.T) {
	t.Parallel()
	waiting := int64(*openJobs)
	long := patience * time.Duration(1+waiting/40_000)
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{MaxFile: "4GB"})
	s := faulttest.NewScenario(t, program, broker.URL, nil)
	var called atomic.Int64
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/15") {
			return
		}
		var jobs []struct {
			ID string `json:"id"`
		}
		if err := json.NewDecoder(r.Body).Decode(&jobs); err != nil {
			t.Error(err)
		}
		called.Add(int64(len(jobs)))
		fmt.Fprint(w, `{"results":[]}`) // a job that is not listed is to be tried again
	}))
	t.Cleanup(service.Close)
	var list []string
	for i := range 16 {
		list = append(list, fmt.Sprintf("%s-%02d=%s/%d", strings.Repeat("long", 14), i, service.URL, i))
	}
	s.Env["ROLLCALL_SERVICES"] = strings.Join(list, ",")
	s.Setup()
	s.Load.Publish(int(waiting), 3*long)
	w := limited(t, s)
	faulttest.Until(t, 5*long, "every job was called for once", func() bool {
		return !w.Running() || called.Load() >= waiting
	})
	fits(t, w)
}

// TestMemoryOfIdleConnections: somebody opens connections to the health port and says nothing.
// They cost little, and a probe still gets its reply.
func TestMemoryOfIdleConnections(t *testing.T) {
	t.Parallel()
	const idle = 14_000
	broker := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	s := faulttest.NewScenario(t, program, broker.URL, []string{"billing"})
	s.Setup()
	w := limited(t, s)
	for i := range idle {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.HTTP, "http://"))
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if i%1000 == 0 && !w.Ready() {
			t.Errorf("with %d idle connections the probe gets no reply", i)
		}
	}
	if !w.Ready() || !w.Alive() {
		t.Error("the probes get no reply any more")
	}
	s.Load.Publish(100, patience)
	faulttest.Until(t, patience, "at rest", s.AtRest)
	fits(t, w)
}
