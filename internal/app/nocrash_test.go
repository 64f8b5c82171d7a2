package app_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"rollcall/internal/app"
	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
)

// allSucceeded waits for rest and fails the test for every job that did not end well.
func (r *rig) allSucceeded(n int) {
	r.t.Helper()
	ended := ends(r.judge())
	if len(ended) != n {
		r.t.Errorf("%d jobs ended, want %d", len(ended), n)
	}
	for id, j := range ended {
		if j.Outcome != jobs.Succeeded {
			r.t.Errorf("job %s, which its service said ok to, ended %s: %s", id, j.Outcome, j.Reason)
		}
	}
	if letters := r.stored("DEAD"); len(letters) > 0 {
		r.t.Errorf("%d dead letters", len(letters))
	}
}

// TestABrokerThatFlapsMakesNoCrashLoop: with the shortest lease, the line to the broker is cut at
// each call until the lease is over. The process sees the end of each delivery, so none of them is
// a crash, however many there are.
func TestABrokerThatFlapsMakesNoCrashLoop(t *testing.T) {
	t.Parallel()
	const n, flaps = 3, 8
	lease := time.Second
	r := newRig(t, []string{"billing"}, "ROLLCALL_ACK_WAIT="+lease.String(), "ROLLCALL_BATCH_SIZE=1")
	var way nats.Options
	if err := r.inProcess(&way); err != nil {
		t.Fatal(err)
	}
	line := &severable{way: way.InProcessServer}
	var mu sync.Mutex
	called := 0
	r.services["billing"].Answer(func(faulttest.Request) faulttest.Answer {
		mu.Lock()
		defer mu.Unlock()
		if called++; called <= flaps*n {
			line.sever(true)
			time.AfterFunc(lease+lease/4, func() { line.sever(false) })
		}
		return faulttest.Answer{}
	})
	r.inProcess = nats.InProcessServer(line)
	r.start()
	r.load.Publish(n, limit)
	r.allSucceeded(n)
	if called <= flaps {
		t.Errorf("%d calls; the line was hardly ever cut", called)
	}
}

// TestAMaxPayloadThatIsLoweredMakesNoCrashLoop: the server takes less from one moment on, and the
// events of the batches that are being called for do not fit any more.
func TestAMaxPayloadThatIsLoweredMakesNoCrashLoop(t *testing.T) {
	t.Parallel()
	for _, reconnects := range []bool{true, false} {
		t.Run(fmt.Sprint("reconnects ", reconnects), func(t *testing.T) {
			t.Parallel()
			const n = 400
			dir := t.TempDir()
			conf := filepath.Join(dir, "nats.conf")
			configure := func(maxPayload string) {
				text := fmt.Sprintf("listen: 127.0.0.1:-1\njetstream: {store_dir: %q}\nmax_payload: %s\n", filepath.Join(dir, "store"), maxPayload)
				if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			configure("1MB")
			options, err := server.ProcessConfigFile(conf)
			if err != nil {
				t.Fatal(err)
			}
			broker := faulttest.StartServer(t, *options)
			line := &severable{way: broker}
			r := newRigAt(t, nats.InProcessServer(broker), []string{"billing"}, "ROLLCALL_ACK_WAIT=2s")
			lowered := make(chan struct{})
			r.services["billing"].Answer(func(faulttest.Request) faulttest.Answer {
				<-lowered
				return faulttest.Answer{}
			})
			r.load.Publish(n, limit)
			ended := make(chan error, 1)
			ctx, stop := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() {
				ended <- app.Run(ctx, r.config(), zerolog.New(zerolog.NewTestWriter(t)), app.Options{Replica: "before", NATS: []nats.Option{nats.InProcessServer(line)}})
			})
			defer running.Wait()
			defer stop()
			eventually(t, "calls are under way", func() bool { return r.services["billing"].Count() > 0 })
			configure("4KB")
			if err := broker.Reload(); err != nil {
				t.Fatal(err)
			}
			if reconnects {
				line.sever(true)
				line.sever(false)
			}
			close(lowered)
			if !reconnects {
				if err := <-ended; !errors.Is(err, app.ErrConnectionClosed) {
					t.Errorf("the replica ended with %v", err)
				}
				r.start()
			}
			r.allSucceeded(n)
			calls := map[string]int{}
			for _, c := range r.services["billing"].Calls() {
				calls[c.UID]++
			}
			if most := slices.Max(slices.Collect(maps.Values(calls))); most > 3 {
				t.Errorf("a job was called for %d times, want once before and once after", most)
			}
		})
	}
}
