package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"rollcall/internal/app"
	"rollcall/internal/devkit"
	"rollcall/internal/devkit/devkittest"
	"rollcall/internal/faulttest"
	"rollcall/internal/web"
)

// member is a replica of a pool on a broker that can be ended.
type member struct {
	t    *testing.T
	addr string
	stop func()
}

// join runs a replica until the test ends.
func join(t *testing.T, url, name string, service *faulttest.Recorder, env ...string) member {
	t.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", faulttest.FreePort(t))
	cfg := configured(t, service, append([]string{"NATS_URL=" + url, "ROLLCALL_HTTP_ADDR=" + addr, "ROLLCALL_DRAIN_TIMEOUT=1s"}, env...)...)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := app.Run(ctx, cfg, zerolog.Nop(), app.Options{Replica: name, Version: "v1.2.3"}); err != nil {
			t.Logf("replica %s ended with %v", name, err)
		}
	}()
	m := member{t: t, addr: cfg.Web.Page(), stop: func() { cancel(); <-ended }}
	t.Cleanup(m.stop)
	return m
}

// status asks the replica how it and its pool are.
func (m member) status() (s web.Status) {
	m.t.Helper()
	r, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, "http://"+m.addr+"/api/v1/status", nil)
	if err != nil {
		m.t.Fatal(err)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		return s
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&s); err != nil {
		m.t.Logf("%s: %v", m.addr, err)
	}
	return s
}

// until waits for a state of the replica.
func (m member) until(what string, reached func(web.Status) bool) (s web.Status) {
	m.t.Helper()
	faulttest.Until(m.t, limit, what, func() bool {
		s = m.status()
		return reached(s)
	})
	return s
}

// TestThePageOfARunningReplicaHasAnAddressOfItsOwn: neither port serves what belongs to the other.
func TestThePageOfARunningReplicaHasAnAddressOfItsOwn(t *testing.T) {
	t.Parallel()
	broker := devkittest.Start(t, devkit.Options{Dir: t.TempDir()})
	health, page := fmt.Sprintf("127.0.0.1:%d", faulttest.FreePort(t)), fmt.Sprintf("127.0.0.1:%d", faulttest.FreePort(t))
	m := join(t, broker.URL(), "one", faulttest.StartRecorder(t, "billing"), "ROLLCALL_HTTP_ADDR="+health, "ROLLCALL_PAGE_ADDR="+page)
	m.until("the replica is ready", func(s web.Status) bool { return s.Replica.Ready })
	for url, want := range map[string]int{
		health + "/readyz": http.StatusOK, health + "/metrics": http.StatusOK, health + "/": http.StatusNotFound, health + "/api/v1/status": http.StatusNotFound,
		page + "/": http.StatusOK, page + "/api/v1/status": http.StatusOK, page + "/metrics": http.StatusNotFound, page + "/livez": http.StatusNotFound,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+url, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := response.Body.Close(); err != nil || response.StatusCode != want {
			t.Errorf("%s: %d, %v; want %d", url, response.StatusCode, err, want)
		}
	}
}

func TestStatusListsTheOtherReplicasAndKeepsTheLastNumbersWithoutTheBroker(t *testing.T) {
	t.Parallel()
	broker := devkittest.Start(t, devkit.Options{Dir: t.TempDir()})
	billing := faulttest.StartRecorder(t, "billing")
	one, two := join(t, broker.URL(), "one", billing), join(t, broker.URL(), "two", billing)
	js := faulttest.JetStream(t, faulttest.Connect(t, broker.URL()))
	two.until("the second replica is ready", func(s web.Status) bool { return s.Replica.Ready })
	faulttest.NewLoad(t, js, "JOBS", "jobs.test").Publish(3, limit)

	before := one.until("both replicas and the streams are shown", func(s web.Status) bool {
		return len(s.Peers.Replicas) == 2 && s.Pool != nil && len(s.Pool.Streams) > 0
	})
	if before.Peers.Replicas[0].Replica != "one" || before.Peers.Replicas[1].Replica != "two" || before.Peers.Error != "" || before.PoolError != "" {
		t.Errorf("before: peers %+v, pool error %q", before.Peers, before.PoolError)
	}
	broker.Shutdown()
	after := one.until("the broker is missed", func(s web.Status) bool { return s.PoolError != "" && s.Peers.Error != "" })
	if after.Pool == nil || after.PoolReadAt.Before(before.PoolReadAt) || after.At.Sub(after.PoolReadAt) < 0 || len(after.Peers.Replicas) != 2 {
		t.Errorf("after: pool %+v read at %v, peers %+v; the last numbers should stay", after.Pool, after.PoolReadAt, after.Peers)
	}
	for _, c := range after.Checks {
		if c.Name != web.CheckWorking && c.OK {
			t.Errorf("check %s is ok without the broker", c.Name)
		}
		if c.Name == web.CheckConsumer && !strings.Contains(c.Detail, "unknown") {
			t.Errorf("the consumer is %q while nobody can know", c.Detail)
		}
	}
}
