package app_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"rollcall/internal/app"
	"rollcall/internal/faulttest"
)

// volume is a nats-server whose store can be set back to an older copy while clients live on.
type volume struct {
	t   *testing.T
	dir string

	mu     sync.Mutex
	server *server.Server
}

// InProcessConn implements [nats.InProcessConnProvider].
func (v *volume) InProcessConn() (net.Conn, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.server == nil {
		return nil, errors.New("the server is down")
	}
	return v.server.InProcessConn()
}

func newVolume(t *testing.T) *volume {
	t.Helper()
	v := &volume{t: t, dir: filepath.Join(t.TempDir(), "live")}
	v.up()
	t.Cleanup(v.down)
	return v
}

func (v *volume) up() {
	v.t.Helper()
	s, err := server.NewServer(&server.Options{JetStream: true, StoreDir: v.dir, DontListen: true, NoLog: true, NoSigs: true})
	if err != nil {
		v.t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(limit) {
		v.t.Fatal("the server did not start")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.server = s
}

func (v *volume) down() {
	v.mu.Lock()
	s := v.server
	v.server = nil
	v.mu.Unlock()
	if s != nil {
		s.Shutdown()
		s.WaitForShutdown()
	}
}

// snapshot copies the store of a server that is down for the moment.
func (v *volume) snapshot() (copied string) {
	v.t.Helper()
	v.down()
	copied = filepath.Join(v.t.TempDir(), "snapshot")
	if err := os.CopyFS(copied, os.DirFS(v.dir)); err != nil {
		v.t.Fatal(err)
	}
	v.up()
	return copied
}

// setBack replaces the store by a copy of it.
func (v *volume) setBack(copied string) {
	v.t.Helper()
	v.down()
	if err := os.RemoveAll(v.dir); err != nil {
		v.t.Fatal(err)
	}
	if err := os.CopyFS(v.dir, os.DirFS(copied)); err != nil {
		v.t.Fatal(err)
	}
	v.up()
}

// TestJobsAreNewWorkAfterTheBrokerWasSetBack: the broker's volume is set back to an older copy
// while a worker lives. New jobs get the numbers of jobs that the worker has made final, and must
// all be called and end in an event.
func TestJobsAreNewWorkAfterTheBrokerWasSetBack(t *testing.T) {
	t.Parallel()
	for name, early := range map[string]int{"to the first job": 1, "to between the jobs": 40} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			setBackAfter(t, early)
		})
	}
}

// setBackAfter copies the store when so many early jobs have ended.
func setBackAfter(t *testing.T, early int) {
	const n = 100
	v := newVolume(t)
	service := faulttest.StartRecorder(t, "billing")
	env := []string{
		"ROLLCALL_SERVICES=billing=" + service.URL(), "ROLLCALL_HTTP_ADDR=127.0.0.1:0", "ROLLCALL_ACK_WAIT=2s",
		"ROLLCALL_BATCH_LINGER=20ms", "ROLLCALL_RETRY_MIN=10ms", "ROLLCALL_RETRY_MAX=50ms",
	}
	cfg, err := app.LoadRun(env)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Setup(t.Context(), cfg, zerolog.Nop(), app.Options{NATS: []nats.Option{nats.InProcessServer(v)}}, false); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	var log bytes.Buffer
	out := zerolog.New(zerolog.SyncWriter(&log)).With().Timestamp().Logger().Level(zerolog.InfoLevel)
	go func() {
		ended <- app.Run(ctx, cfg, out, app.Options{Replica: "r1", NATS: []nats.Option{nats.InProcessServer(v)}})
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the replica's log:\n%s", &log)
		}
	})
	publishAll(t, v, "early", early)
	copied := v.snapshot()
	publishAll(t, v, "old", n)
	v.setBack(copied)
	publishAll(t, v, "new", n)
	js := faulttest.JetStream(t, faulttest.Connect(t, "", nats.InProcessServer(v)))
	faulttest.WaitRest(t, js, "JOBS", "default", limit)
	stop()
	if err := <-ended; err != nil {
		t.Errorf("the replica ended with %v", err)
	}
	events, err := faulttest.Events(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	final := map[string]int{}
	for _, e := range events {
		for _, j := range e.Data.Jobs {
			if j.Final() {
				final[j.ID]++
			}
		}
	}
	for i := range n {
		if id := fmt.Sprintf("new-%d", i); final[id] != 1 || callsFor(service, id) < 1 {
			t.Errorf("job %s is final in %d events after %d calls", id, final[id], callsFor(service, id))
		}
	}
	if !strings.Contains(log.String(), "the broker's data was set back") {
		t.Errorf("the log does not say that the broker was set back:\n%s", &log)
	}
}

// publishAll publishes n jobs and waits until the pool is at rest.
func publishAll(t *testing.T, v *volume, name string, n int) {
	t.Helper()
	nc := faulttest.Connect(t, "", nats.InProcessServer(v))
	defer nc.Close()
	js := faulttest.JetStream(t, nc)
	for i := range n {
		id := fmt.Sprintf("%s-%d", name, i)
		if _, err := js.Publish(t.Context(), "jobs.test", []byte("1"), jetstream.WithMsgID(id)); err != nil {
			t.Fatal(err)
		}
	}
	faulttest.WaitRest(t, js, "JOBS", "default", limit)
}
