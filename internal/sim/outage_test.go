package sim_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/app"
	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
	"rollcall/internal/pool"
	client "rollcall/internal/service"
)

// outageLength is how long the service is away.
const outageLength = time.Hour

// outage is a service that is of no use until a moment: it refuses connections, or every request.
// The client is the real one, with its tries and its breaker, and dials a real port.
type outage struct {
	pool.Service
	client *client.Service
	until  time.Time
	// refused counts calls that met the port, held those that the breaker or the pace held back.
	refused, held *atomic.Int64
}

func (o *outage) Call(ctx context.Context, call *jobs.Call) jobs.CallResult {
	if !time.Now().Before(o.until) {
		return o.Service.Call(ctx, call)
	}
	result := o.client.Call(ctx, call)
	if f := result.Failure; f.Code != 0 || f.Reason == jobs.ReasonRefused {
		o.refused.Add(1)
	} else {
		o.held.Add(1)
	}
	return result
}

// refuser is the address of a service that answers every request by one status. It keeps no
// connection: in a bubble, a goroutine that reads from one would stop the time.
func refuser(t *testing.T, status int) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// TestAnHourOfOutageBurnsNoAttempt: a service refuses connections for an hour, or every request with
// 401 or 429, with the settings that are the defaults. No job ends meanwhile, and each ends well
// afterwards: at its first attempt, or at its second where other services have answered for it at the
// first.
func TestAnHourOfOutageBurnsNoAttempt(t *testing.T) {
	t.Parallel()
	for _, c := range []outageCase{
		{jobs: 20, alone: true},
		{jobs: 20},
		{jobs: manyJobs, alone: true},
		{jobs: 20, alone: true, status: http.StatusUnauthorized},
		{jobs: 20, status: http.StatusUnauthorized},
		{jobs: 20, alone: true, status: http.StatusTooManyRequests},
		{jobs: 20, status: http.StatusTooManyRequests},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			t.Parallel()
			addr := fmt.Sprintf("127.0.0.1:%d", faulttest.FreePort(t)) // nobody listens there
			if c.status != 0 {
				addr = refuser(t, c.status)
			}
			cfg, err := app.LoadRun([]string{"ROLLCALL_SERVICES=index=http://" + addr + "/jobs"})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) { c.outlast(t, cfg) })
		})
	}
}

// outageCase is a number of jobs that wait for a service, which has the pool alone or is one of
// three. It answers by status, or refuses connections if that is 0.
type outageCase struct {
	jobs   int
	alone  bool
	status int
}

func (c outageCase) outlast(t *testing.T, cfg app.Config) {
	t.Helper()
	attempt := 2
	if c.alone {
		attempt = 1
	}
	w := newWorld(1)
	w.calm.Store(true)
	until := time.Now().Add(outageLength)
	var refused, held atomic.Int64
	replicas := make([]*replica, 2)
	for i := range replicas {
		index, err := client.New("index", cfg.Targets[0].URL, cfg.Targets[0].Config, client.Deps{RetryMax: cfg.Engine.RetryMax, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		defer index.Close()
		replicas[i] = launch(w, fmt.Sprint("r", i), func(engine *pool.Config, parts *pool.Parts) {
			name, replica := engine.Pool, engine.Replica
			*engine = cfg.Engine
			engine.Pool, engine.Replica = name, replica
			if c.alone {
				parts.Services = slices.DeleteFunc(parts.Services, func(s pool.Service) bool { return s.Name() != index.Name() })
			}
			for k, s := range parts.Services {
				if s.Name() == index.Name() {
					parts.Services[k] = &outage{Service: s, client: index, until: until, refused: &refused, held: &held}
				}
			}
		})
	}
	bodies := make([]string, c.jobs)
	for i := range bodies {
		bodies[i] = "{}"
	}
	w.publish(bodies, nil)
	time.Sleep(time.Until(until))
	if w.waiting() != c.jobs {
		t.Errorf("%d of %d jobs wait at the end of the outage", w.waiting(), c.jobs)
	}
	if refused.Load() == 0 || held.Load() == 0 {
		t.Errorf("%d calls were refused and %d held back, want both", refused.Load(), held.Load())
	}
	for end := time.Now().Add(cfg.Engine.RetryMax + 2*ackWait); w.waiting() > 0 && time.Now().Before(end); time.Sleep(time.Second) {
	}
	for _, r := range replicas {
		r.stop(time.Minute)
	}
	for _, broken := range w.violations() {
		t.Error(broken)
	}
	done := 0
	for _, e := range w.history.Events {
		for i := range e.Data.Jobs {
			switch j := &e.Data.Jobs[i]; {
			case !j.Final():
			case j.Outcome != jobs.Succeeded || j.Attempt != attempt:
				t.Errorf("job %s ended %s at attempt %d: %s", j.UID, j.Outcome, j.Attempt, j.Reason)
			default:
				done++
			}
		}
	}
	if done != c.jobs || len(w.letters) > 0 {
		t.Errorf("%d of %d jobs succeeded, %d dead letters", done, c.jobs, len(w.letters))
	}
	t.Logf("%d calls refused, %d held back, %d events", refused.Load(), held.Load(), len(w.history.Events))
}
