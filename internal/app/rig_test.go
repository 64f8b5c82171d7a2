package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"rollcall/internal/app"
	"rollcall/internal/faulttest"
	"rollcall/internal/history"
	"rollcall/internal/jobs"
)

// rig is a server, services and a producer, for pools that run as they do in production: put
// together by app, with nothing but their settings.
type rig struct {
	t         *testing.T
	inProcess nats.Option
	nc        *nats.Conn
	js        jetstream.JetStream
	services  map[string]*faulttest.Recorder
	env       []string
	load      *faulttest.Load
	replicas  int
	// beside are pools that take other jobs than those of load.
	beside []string
}

// newRig starts a server of its own and the services named, and sets the pool up.
func newRig(t *testing.T, services []string, env ...string) *rig {
	t.Helper()
	return newRigOn(t, server.Options{}, services, env...)
}

func newRigOn(t *testing.T, o server.Options, services []string, env ...string) *rig {
	t.Helper()
	return newRigAt(t, embedded(t, o), services, env...)
}

// newRigAt is newRigOn with a server that is there.
func newRigAt(t *testing.T, inProcess nats.Option, services []string, env ...string) *rig {
	t.Helper()
	r := &rig{t: t, inProcess: inProcess, services: map[string]*faulttest.Recorder{}}
	list := make([]string, len(services))
	for i, name := range services {
		s := faulttest.StartRecorder(t, name)
		r.services[name] = s
		list[i] = name + "=" + s.URL()
	}
	r.env = append([]string{
		"ROLLCALL_SERVICES=" + strings.Join(list, ","), "ROLLCALL_HTTP_ADDR=127.0.0.1:0",
		"ROLLCALL_BATCH_LINGER=20ms", "ROLLCALL_RETRY_MIN=10ms", "ROLLCALL_RETRY_MAX=50ms",
	}, env...)
	r.nc = faulttest.Connect(t, "", r.inProcess)
	r.js = faulttest.JetStream(t, r.nc)
	if cfg := r.config(); cfg.Streams.Source == "jetstream" {
		r.setup(cfg)
		r.load = faulttest.NewLoad(t, r.js, cfg.Streams.Stream, "jobs.test")
	}
	return r
}

// config reads the settings of the rig, and more that may overrule them.
func (r *rig) config(env ...string) app.Config {
	r.t.Helper()
	cfg, err := app.LoadRun(slices.Concat(r.env, env))
	if err != nil {
		r.t.Fatal(err)
	}
	return cfg
}

func (r *rig) setup(cfg app.Config) app.Plan {
	r.t.Helper()
	plan, err := app.Setup(r.t.Context(), cfg, zerolog.Nop(), app.Options{NATS: []nats.Option{r.inProcess}}, false)
	if err != nil {
		r.t.Fatal(err)
	}
	return plan
}

// start runs one replica until the returned function is called, which returns how it ended.
func (r *rig) start(env ...string) (stop func() error) {
	r.t.Helper()
	return r.run(r.config(env...))
}

// run is start with settings of one's own.
func (r *rig) run(cfg app.Config) (stop func() error) {
	r.t.Helper()
	r.replicas++
	opts := app.Options{Replica: fmt.Sprintf("r%d", r.replicas), NATS: []nats.Option{r.inProcess}}
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan error, 1)
	out := &runLog{t: r.t, out: zerolog.NewTestWriter(r.t)}
	go func() {
		err := app.Run(ctx, cfg, zerolog.New(out).Level(zerolog.InfoLevel), opts)
		out.ended.Store(true)
		ended <- err
	}()
	stop = func() error {
		cancel()
		err := <-ended
		ended <- err
		return err
	}
	r.t.Cleanup(func() {
		if err := stop(); err != nil {
			r.t.Errorf("the replica ended with %v", err)
		}
	})
	return stop
}

// runLog fails the test that logs for a line that is written once the replica has ended.
type runLog struct {
	t     *testing.T
	out   io.Writer
	ended atomic.Bool
}

// Write implements io.Writer.
func (l *runLog) Write(line []byte) (int, error) {
	if l.ended.Load() {
		l.t.Errorf("logged after the replica had ended: %s", line)
	}
	return l.out.Write(line)
}

// send publishes a job with an id of its own and headers, name and value in turn.
func (r *rig) send(subject, id, body string, headers ...string) {
	r.t.Helper()
	m := nats.NewMsg(subject)
	m.Data = []byte(body)
	if id != "" {
		m.Header.Set(jobs.HeaderMsgID, id)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		m.Header[headers[i]] = []string{headers[i+1]}
	}
	r.load.Send(m, limit)
}

// judge waits until nothing is left to do, fails the test for every broken promise, and
// returns what is stored.
func (r *rig) judge() history.History {
	r.t.Helper()
	cfg := r.config()
	faulttest.WaitRest(r.t, r.js, cfg.Streams.Stream, cfg.Pool, limit)
	h := history.History{Accepted: r.load.Accepted(), AtRest: true, Calm: true}
	for _, s := range r.services {
		h.Calls = append(h.Calls, s.Calls()...)
		if mixed := s.Mixed(); len(mixed) > 0 {
			r.t.Errorf("%s got several bodies under the keys %v", s.Name, mixed)
		}
	}
	var err error
	if h.Events, err = faulttest.Events(r.t.Context(), r.js); err != nil {
		r.t.Fatal(err)
	}
	h.Events = slices.DeleteFunc(h.Events, func(e history.Event) bool { return slices.Contains(r.beside, e.Data.Pool) })
	if h.DeadLetters, err = faulttest.DeadLetters(r.t.Context(), r.js); err != nil {
		r.t.Fatal(err)
	}
	for _, v := range h.Violations() {
		r.t.Error(v)
	}
	return h
}

// ends returns the entry of each job in the event that it is final in, by its id.
func ends(h history.History) map[string]jobs.EventJob {
	final := map[string]jobs.EventJob{}
	for _, e := range h.Events {
		for _, j := range e.Data.Jobs {
			if j.Final() {
				final[j.ID] = j
			}
		}
	}
	return final
}

// callsFor counts how often a service was called for a job.
func callsFor(s *faulttest.Recorder, id string) (n int) {
	for _, c := range s.Calls() {
		if c.ID == id {
			n++
		}
	}
	return n
}

// stored returns the messages of a stream.
func (r *rig) stored(stream string) (all []*jetstream.RawStreamMsg) {
	r.t.Helper()
	s, err := r.js.Stream(r.t.Context(), stream)
	if err != nil {
		r.t.Fatal(err)
	}
	state := s.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		m, err := s.GetMsg(r.t.Context(), seq)
		if err == nil {
			all = append(all, m)
		}
	}
	return all
}

// results answers in Rollcall's own dialect with what say returns for each job.
func results(say func(faulttest.Asked) map[string]any) func(faulttest.Request) faulttest.Answer {
	return func(req faulttest.Request) faulttest.Answer {
		list := make([]map[string]any, 0, len(req.Jobs))
		for _, j := range req.Jobs {
			entry := say(j)
			if _, named := entry["id"]; !named {
				entry["id"] = j.ID
			}
			list = append(list, entry)
		}
		body, err := json.Marshal(map[string]any{"results": list})
		if err != nil {
			return faulttest.Answer{Status: 500}
		}
		return faulttest.Answer{Body: string(body)}
	}
}
