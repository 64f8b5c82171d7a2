package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/bench/peer"
	"rollcall/bench/proc"
)

// jobStream is the stream that jobs are published to.
const jobStream = "JOBS"

// Contender is a program that works on jobs.
type Contender struct {
	// Name in tables.
	Name string
	// consumer is its durable consumer, events the subjects of its stored events in stream,
	// live the plain subject where an event is seen the moment it is stored.
	consumer, stream, events, live string
	// prepare creates the streams, unless the program does that itself.
	prepare func(context.Context, jetstream.JetStream, Spec) error
	// start runs the i-th replica and returns when it takes jobs.
	start func(ctx context.Context, l *Lab, s Spec, i int) (*proc.Process, error)
	// final returns the stream sequences of the jobs that an event ends.
	final func(event []byte) ([]uint64, error)
}

// Floor is [peer.Floor], the measure of everything else.
func Floor() Contender { return loop("floor", peer.ChildFloor) }

// Simple is [peer.Simple], what a good programmer writes in an hour.
func Simple() Contender { return loop("simple", peer.ChildSimple) }

func loop(name, child string) Contender {
	return Contender{
		Name: name, consumer: peer.LoopConsumer,
		stream: "EVENTS", events: peer.LoopEvents, live: "stored." + peer.LoopEvents,
		prepare: prepareLoop, final: finalOfLoop,
		start: func(ctx context.Context, l *Lab, s Spec, i int) (*proc.Process, error) {
			p, err := l.child(ctx, child, peer.Loop{
				URL: l.url, Stream: jobStream, Services: l.services,
				Batch: s.Batch, InFlight: s.InFlight, Payload: s.Payload, Linger: s.Linger, Requests: s.Requests,
			})
			if err != nil {
				return nil, fmt.Errorf("start %s %d: %w", name, i, err)
			}
			if _, err := p.Ready(ctx); err != nil {
				return p, err
			}
			return p, nil
		},
	}
}

func prepareLoop(ctx context.Context, js jetstream.JetStream, s Spec) error {
	cfg := jetstream.StreamConfig{
		Name: jobStream, Subjects: []string{"jobs.>"}, Replicas: s.streamReplicas(),
		Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage,
	}
	if s.Keep {
		cfg.Retention = jetstream.LimitsPolicy
	}
	if _, err := js.CreateStream(ctx, cfg); err != nil {
		return fmt.Errorf("create the job stream: %w", err)
	}
	_, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name: "EVENTS", Subjects: []string{"events.>"}, Storage: jetstream.FileStorage, Replicas: s.streamReplicas(),
		RePublish: &jetstream.RePublish{Source: "events.>", Destination: "stored.events.>"},
	})
	if err != nil {
		return fmt.Errorf("create the event stream of a loop: %w", err)
	}
	return nil
}

func finalOfLoop(event []byte) ([]uint64, error) {
	var e peer.LoopEvent
	if err := json.Unmarshal(event, &e); err != nil {
		return nil, fmt.Errorf("decode an event of a loop: %w", err)
	}
	return e.Jobs, nil
}

// Pool is the worker's own binary at path; args follow "run", env is added to its settings.
func Pool(path string, env, args []string) Contender {
	return Contender{
		Name: "pool", consumer: "default", stream: "DONE", events: "done.batches.>", live: "batches.>",
		prepare: preparePool,
		start: func(ctx context.Context, l *Lab, s Spec, i int) (*proc.Process, error) {
			return startWorker(ctx, path, append([]string{"run"}, args...), append(workerEnv(l, s), env...))
		},
		final: finalOfPool,
	}
}

// preparePool creates the job stream where it shall keep what is done; else the worker makes it.
// Apart from that it is the one that `worker setup` makes.
func preparePool(ctx context.Context, js jetstream.JetStream, s Spec) error {
	if !s.Keep {
		return nil
	}
	_, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name: jobStream, Subjects: []string{"jobs.>"}, Replicas: s.streamReplicas(), Retention: jetstream.LimitsPolicy,
		Storage: jetstream.FileStorage, Discard: jetstream.DiscardNew, Duplicates: 2 * time.Minute, AllowDirect: true,
	})
	if err != nil {
		return fmt.Errorf("create the job stream: %w", err)
	}
	return nil
}

// workerEnv is what differs from the worker's own defaults.
func workerEnv(l *Lab, s Spec) []string {
	env := []string{
		"NATS_URL=" + l.url,
		"ROLLCALL_BATCH_SIZE=" + strconv.Itoa(s.Batch),
		"ROLLCALL_BATCH_LINGER=" + s.Linger.String(),
		"ROLLCALL_BATCHES_IN_FLIGHT=" + strconv.Itoa(s.InFlight),
		"ROLLCALL_RETRY_MIN=50ms",
		"ROLLCALL_LOG_LEVEL=warn",
		"ROLLCALL_START=all", // of a stream that keeps what is done
		"ROLLCALL_REPLICAS=" + strconv.Itoa(s.streamReplicas()),
	}
	services := make([]string, len(l.services))
	for i, url := range l.services {
		name := "s" + strconv.Itoa(i)
		services[i] = name + "=" + url
		if s.Requests > 0 {
			env = append(env, fmt.Sprintf("ROLLCALL_SVC_S%d_FORMAT=plain", i), fmt.Sprintf("ROLLCALL_SVC_S%d_CONCURRENCY=%d", i, s.Requests))
			continue
		}
		env = append(env, fmt.Sprintf("ROLLCALL_SVC_S%d_CONCURRENCY=%d", i, s.InFlight))
	}
	env = append(env, "ROLLCALL_SERVICES="+strings.Join(services, ","))
	return append(env, s.Settings...)
}

// startWorker runs a replica on a free port and waits until it says that it is ready.
func startWorker(ctx context.Context, path string, args, env []string) (*proc.Process, error) {
	addr, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	for _, v := range os.Environ() { // HOME, GOGC and the like, but no settings of a worker
		if !strings.HasPrefix(v, "ROLLCALL_") && !strings.HasPrefix(v, "NATS_") {
			env = append(env, v)
		}
	}
	env = append(env, "ROLLCALL_HTTP_ADDR="+addr)
	p, err := proc.Start(ctx, proc.Spec{Name: "worker", Path: path, Args: args, Env: env})
	if err != nil {
		return nil, err
	}
	if err := awaitReady(ctx, "http://"+addr+"/readyz", p); err != nil {
		return p, err
	}
	return p, nil
}

func freeAddr(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

func awaitReady(ctx context.Context, url string, p *proc.Process) error {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return fmt.Errorf("ask whether the worker is ready: %w", err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if err := sleep(ctx, 10*time.Millisecond, p); err != nil {
			return fmt.Errorf("wait for %s: %w", url, err)
		}
	}
}

func finalOfPool(event []byte) ([]uint64, error) {
	e, err := decodePoolEvent(event)
	if err != nil {
		return nil, err
	}
	var done []uint64
	for _, j := range e.Data.Jobs {
		if j.Outcome == "retrying" {
			continue
		}
		_, seq, _ := strings.Cut(j.UID, ".")
		n, err := strconv.ParseUint(seq, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read the uid %q of a completion event: %w", j.UID, err)
		}
		done = append(done, n)
	}
	return done, nil
}
