package app_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"rollcall/internal/app"
	"rollcall/internal/faulttest"
)

// TestAWorkerWithDefaultsOverASlowLink: it takes what the link carries within a lease, so that no
// job is given to others while it is on its way, and none is called for twice. Renewals and
// commits go up beside the acks, and their answers come down behind the jobs.
func TestAWorkerWithDefaultsOverASlowLink(t *testing.T) {
	t.Parallel()
	const n, size, rate = 500, 1024, 256_000 / 8
	r := newRigOn(t, server.Options{Host: "127.0.0.1", Port: -1}, []string{"billing"})
	var way nats.Options
	if err := r.inProcess(&way); err != nil {
		t.Fatal(err)
	}
	proxy, err := faulttest.NewProxy(way.InProcessServer.(*server.Server).Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proxy.Close(); err != nil {
			t.Errorf("close the proxy: %v", err)
		}
	})
	body := strings.Repeat("x", size)
	for range n {
		r.send("jobs.test", "", body)
	}
	proxy.Limit(rate)
	cfg, err := app.LoadRun([]string{
		"ROLLCALL_SERVICES=billing=" + r.services["billing"].URL(), "ROLLCALL_HTTP_ADDR=127.0.0.1:0", "NATS_URL=" + proxy.Addr(),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.inProcess = func(*nats.Options) error { return nil }
	stop := r.run(cfg)
	begun := time.Now()
	faulttest.WaitRest(t, r.js, "JOBS", "default", 3*limit)
	took := time.Since(begun)
	proxy.Limit(0)
	if err := stop(); err != nil {
		t.Error(err)
	}
	carried := time.Duration(n*size) * time.Second / rate
	t.Logf("%v for what the link carries in %v", took, carried)
	if took > 2*carried {
		t.Errorf("took %v for what the link carries in %v", took, carried)
	}
	calls := len(r.services["billing"].Calls())
	if calls != n {
		t.Errorf("%d jobs were called for %d times", n, calls)
	}
}
