package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"rollcall/internal/app"
	"rollcall/internal/faulttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, faulttest.ServerLeftovers()) }

// limit is how long anything may take before a test fails.
const limit = time.Minute

// embedded starts a server that listens nowhere.
func embedded(t *testing.T, o server.Options) nats.Option {
	t.Helper()
	o.DontListen, o.JetStream, o.StoreDir = o.Port == 0, true, t.TempDir()
	return nats.InProcessServer(faulttest.StartServer(t, o))
}

// configured returns the settings of a worker with one service, and what else environ says.
func configured(t *testing.T, service *faulttest.Recorder, environ ...string) app.Config {
	t.Helper()
	c, err := app.LoadRun(append([]string{"ROLLCALL_SERVICES=" + service.Name + "=" + service.URL(), "ROLLCALL_HTTP_ADDR=127.0.0.1:0"}, environ...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// readyLines counts the lines of a log that say that a replica is ready.
type readyLines struct{ n atomic.Int64 }

func (r *readyLines) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(`"message":"ready"`)) {
		r.n.Add(1)
	}
	return len(line), nil
}

func TestSeveralReplicasShareAProcess(t *testing.T) {
	t.Parallel()
	const jobs = 400
	inProcess := embedded(t, server.Options{})
	billing := faulttest.StartRecorder(t, "billing")
	cfg := configured(t, billing, "ROLLCALL_BATCH_SIZE=8", "ROLLCALL_BATCHES_IN_FLIGHT=2")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 2)
	var ready readyLines
	for i := range 2 {
		opts := app.Options{Replica: fmt.Sprintf("r%d", i), NATS: []nats.Option{inProcess}}
		go func() { ended <- app.Run(ctx, cfg, zerolog.New(&ready), opts) }()
	}
	faulttest.Until(t, limit, "both replicas are ready", func() bool { return ready.n.Load() == 2 })
	billing.Answer(func(faulttest.Request) faulttest.Answer { return faulttest.Answer{Wait: 5 * time.Millisecond} })
	js := faulttest.JetStream(t, faulttest.Connect(t, "", inProcess))
	load := faulttest.NewLoad(t, js, "JOBS", "jobs.test")
	load.Publish(jobs, limit)
	faulttest.WaitRest(t, js, "JOBS", "default", limit)
	stop()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	events, err := faulttest.Events(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	share := map[string]int{}
	for _, e := range events {
		share[e.Data.Replica] += e.Data.Counts.Succeeded
	}
	if share["r0"] == 0 || share["r1"] == 0 || share["r0"]+share["r1"] != jobs {
		t.Errorf("the replicas' shares are %v, want %d jobs in all and some for each", share, jobs)
	}
}

// TestAReplicaSaysAtItsEndWhoDied: lines that were held back so as not to fill the log are written
// before Run returns.
func TestAReplicaSaysAtItsEndWhoDied(t *testing.T) {
	t.Parallel()
	const n = 3
	inProcess := embedded(t, server.Options{})
	billing := faulttest.StartRecorder(t, "billing")
	billing.Answer(func(faulttest.Request) faulttest.Answer {
		return faulttest.Answer{Status: http.StatusUnprocessableEntity}
	})
	cfg := configured(t, billing, "ROLLCALL_BATCH_SIZE=1")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var log bytes.Buffer
	ended := make(chan error, 1)
	go func() {
		ended <- app.Run(ctx, cfg, zerolog.New(zerolog.SyncWriter(&log)), app.Options{Replica: "r1", NATS: []nats.Option{inProcess}})
	}()
	js := faulttest.JetStream(t, faulttest.Connect(t, "", inProcess))
	eventually(t, "the stream is there", func() bool { _, err := js.Stream(t.Context(), "JOBS"); return err == nil })
	faulttest.NewLoad(t, js, "JOBS", "jobs.test").Publish(n, limit)
	faulttest.WaitRest(t, js, "JOBS", "default", limit)
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	said, lines := 0, 0
	for line := range bytes.Lines(log.Bytes()) {
		var l struct {
			Message string
			Failed  int
		}
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatal(err)
		}
		if l.Message == "jobs ended as dead letters" {
			said += l.Failed
			lines++
		}
	}
	if said != n || lines != 2 {
		t.Errorf("%d lines speak of %d dead jobs, want 2 of %d:\n%s", lines, said, n, &log)
	}
}

func TestPatienceEnds(t *testing.T) {
	t.Parallel()
	cfg := configured(t, faulttest.StartRecorder(t, "billing"), "NATS_URL=nats://127.0.0.1:1")
	err := app.Run(t.Context(), cfg, zerolog.Nop(), app.Options{Patience: 50 * time.Millisecond})
	if !errors.Is(err, app.ErrUnreachable) || !strings.Contains(err.Error(), "NATS_URL") {
		t.Errorf("got %v, want ErrUnreachable and the setting", err)
	}
}

// TestWhatNobodyAnswersIsAskedAgain: a cluster without a leader drops what it is asked. A setup and a
// replica that begin then go on once there is a leader.
func TestWhatNobodyAnswersIsAskedAgain(t *testing.T) {
	t.Parallel()
	inProcess := embedded(t, server.Options{})
	nc := faulttest.Connect(t, "", inProcess)
	var dropped atomic.Bool
	relay := func(m *nats.Msg) {
		if dropped.CompareAndSwap(false, true) {
			return
		}
		m = &nats.Msg{Subject: "$JS" + strings.TrimPrefix(m.Subject, "hub"), Reply: m.Reply, Header: m.Header, Data: m.Data}
		if err := nc.PublishMsg(m); err != nil {
			t.Error(err)
		}
	}
	if _, err := nc.Subscribe("hub.API.>", relay); err != nil {
		t.Fatal(err)
	}
	r := newRigAt(t, inProcess, []string{"billing"}, "NATS_JS_API_PREFIX=hub.API")
	if !dropped.Swap(false) {
		t.Error("the setup asked nothing")
	}
	r.start()
	r.send("jobs.test", "a", "{}")
	r.judge()
	if !dropped.Load() {
		t.Error("the replica asked nothing")
	}
}

func TestSetupMissingIsTold(t *testing.T) {
	t.Parallel()
	cfg := configured(t, faulttest.StartRecorder(t, "billing"), "ROLLCALL_ENSURE=false")
	err := app.Run(t.Context(), cfg, zerolog.Nop(), app.Options{NATS: []nats.Option{embedded(t, server.Options{})}})
	if !errors.Is(err, app.ErrMissing) {
		t.Errorf("got %v, want ErrMissing", err)
	}
}

func TestServerWithoutJetStreamIsTold(t *testing.T) {
	t.Parallel()
	s := faulttest.StartServer(t, server.Options{DontListen: true})
	cfg := configured(t, faulttest.StartRecorder(t, "billing"))
	err := app.Run(t.Context(), cfg, zerolog.Nop(), app.Options{NATS: []nats.Option{nats.InProcessServer(s)}})
	if err == nil || !strings.Contains(err.Error(), "enable JetStream") {
		t.Errorf("got %v; want an error that says what to enable", err)
	}
}

// TestCallsThatOutlastAStopAreWarnedOf: once, with the variables, and only where it is so.
func TestCallsThatOutlastAStopAreWarnedOf(t *testing.T) {
	t.Parallel()
	for drain, want := range map[string]int{"25s": 1, "32s": 0} {
		var log bytes.Buffer
		cfg := configured(t, faulttest.StartRecorder(t, "bill-ing"), "NATS_URL=nats://127.0.0.1:1", "ROLLCALL_DRAIN_TIMEOUT="+drain)
		if err := app.Run(t.Context(), cfg, zerolog.New(&log), app.Options{Patience: 50 * time.Millisecond}); err == nil {
			t.Fatal("there is no server")
		}
		got := 0
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, `"level":"warn"`) && strings.Contains(line, `"ROLLCALL_DRAIN_TIMEOUT":"`+drain) &&
				strings.Contains(line, "ROLLCALL_SVC_BILL_ING_TIMEOUT x ROLLCALL_SVC_BILL_ING_TRIES") {
				got++
			}
		}
		if got != want {
			t.Errorf("%d warnings with a drain of %s, want %d:\n%s", got, drain, want, log.String())
		}
	}
}
