//go:build linux

package lab_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"rollcall/bench/lab"
	"rollcall/bench/peer"
)

// fakeEnv makes the test binary play a worker; its value says what is wrong with it.
const fakeEnv = "LAB_TEST_WORKER"

func TestMain(m *testing.M) {
	flaw, child := os.Getenv(fakeEnv), len(os.Args) > 1 && os.Args[1] == "child"
	if flaw == "" && !child {
		goleak.VerifyTestMain(m)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var err error
	if child {
		err = peer.Child(ctx, os.Args[2:], os.Stdout)
	} else {
		err = fakeWorker(ctx, flaw)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// fakeWorker settles each job alone, in the worker's shapes and by one flaw.
func fakeWorker(ctx context.Context, flaw string) error {
	nc, err := nats.Connect(os.Getenv("NATS_URL"))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	for _, cfg := range []jetstream.StreamConfig{
		{Name: "JOBS", Subjects: []string{"jobs.>"}, Retention: jetstream.WorkQueuePolicy},
		{Name: "DONE", Subjects: []string{"done.>"}, RePublish: &jetstream.RePublish{
			Source: "done.*.*.*.*", Destination: "{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}.{{wildcard(4)}}"}},
	} {
		if _, err := js.CreateStream(ctx, cfg); err != nil {
			return err
		}
	}
	consumer, err := js.CreateConsumer(ctx, "JOBS", jetstream.ConsumerConfig{Durable: "default", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		return err
	}
	consuming, err := consumer.Consume(func(m jetstream.Msg) { settle(ctx, js, m, flaw) })
	if err != nil {
		return err
	}
	defer consuming.Stop()
	srv := &http.Server{Addr: os.Getenv("ROLLCALL_HTTP_ADDR"), Handler: http.NewServeMux()}
	srv.Handler.(*http.ServeMux).HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	go srv.ListenAndServe()
	for tick := time.Tick(time.Millisecond); ctx.Err() == nil; { // so that it is never quite idle
		select {
		case <-tick:
		case <-ctx.Done():
		}
	}
	return srv.Close()
}

func settle(ctx context.Context, js jetstream.JetStream, m jetstream.Msg, flaw string) {
	meta, err := m.Metadata()
	if err != nil {
		panic(err)
	}
	seq := meta.Sequence.Stream
	outcomes := []string{"retrying", "succeeded"}
	switch {
	case flaw == "dies" && seq == 5:
		panic("as told")
	case flaw == "stalls" && seq == 5:
		return
	case flaw == "loses" && seq == 5:
		outcomes = outcomes[:1]
	case flaw == "doubles" && seq == 5:
		outcomes = append(outcomes, "succeeded")
	}
	for i, outcome := range outcomes {
		event, err := json.Marshal(map[string]any{"data": map[string]any{"jobs": []any{
			map[string]string{"uid": fmt.Sprintf("epoch.%d", seq), "outcome": outcome}}}})
		if err != nil {
			panic(err)
		}
		if _, err := js.Publish(ctx, fmt.Sprintf("done.batches.default.%s.%d-%d", outcome, seq, i), event); err != nil {
			panic(err)
		}
	}
	if err := m.Ack(); err != nil {
		panic(err)
	}
}

func setup(t *testing.T) lab.Setup {
	t.Helper()
	return lab.Setup{Exe: os.Args[0], Args: []string{"child"}, Dir: t.TempDir()}
}

func fake(flaw string) lab.Contender {
	return lab.Pool(os.Args[0], []string{fakeEnv + "=" + flaw}, nil)
}

func small() lab.Spec {
	return lab.Spec{Jobs: 500, Payload: 128, Batch: 50, InFlight: 2, Linger: time.Millisecond, Replicas: 1, Services: 2}
}

func measure(t *testing.T, c lab.Contender, s lab.Spec) (lab.Result, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dirs := setup(t)
	r, err := lab.Measure(ctx, dirs, c, s)
	left, readErr := os.ReadDir(dirs.Dir)
	if readErr != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, readErr)
	}
	return r, err
}

func TestTheLoopsDrainEveryJobOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []lab.Contender{lab.Floor(), lab.Simple()} {
		s := small()
		s.Replicas = 2
		r, err := measure(t, c, s)
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		if r.Jobs != 500 || r.Batches < 10 || r.Commits != 0 {
			t.Errorf("%s: %d jobs in %d batches and %d commits, want 500 in 10 or more and none", c.Name, r.Jobs, r.Batches, r.Commits)
		}
		if r.Seconds <= 0 || r.JobsPerSecond <= 0 || r.WorkerCPU <= 0 || r.BrokerCPU <= 0 || r.ServicesCPU <= 0 || r.PeakRSS < 1<<20 || r.BrokerRSS < 1<<20 {
			t.Errorf("%s: a figure is missing in %+v", c.Name, r)
		}
	}
}

func TestAClusterOfThreeNodesIsMeasured(t *testing.T) {
	t.Parallel()
	s := small()
	s.Nodes = 3
	if r, err := measure(t, lab.Floor(), s); err != nil || r.Batches < 10 {
		t.Errorf("%d batches, %v; want 10 or more", r.Batches, err)
	}
}

func TestADrainOfAStreamThatKeepsEverythingEnds(t *testing.T) {
	t.Parallel()
	s := small()
	s.Keep = true
	if r, err := measure(t, lab.Floor(), s); err != nil || r.Batches < 10 {
		t.Errorf("%d batches, %v; want 10 or more", r.Batches, err)
	}
}

func TestTheFloorAtARateHasLatencies(t *testing.T) {
	t.Parallel()
	s := small()
	s.Rate = 1000
	r, err := measure(t, lab.Floor(), s)
	if err != nil {
		t.Fatal(err)
	}
	if r.P50 <= 0 || r.P99 < r.P50 {
		t.Errorf("p50 %g ms, p99 %g ms", r.P50, r.P99)
	}
	if r.JobsPerSecond > 1001 {
		t.Errorf("%g jobs/s at a rate of 1000", r.JobsPerSecond)
	}
}

func TestAWorkerIsMeasuredInItsOwnShapes(t *testing.T) {
	t.Parallel()
	s := small()
	s.Ledger = 1000
	r, err := measure(t, fake("none"), s)
	if err != nil {
		t.Fatal(err)
	}
	if r.Batches != 1000 { // the fake stores two events a job, one of them a retry
		t.Errorf("%d batches, want 1000", r.Batches)
	}
	s.Rate = 2000
	if r, err = measure(t, fake("none"), s); err != nil || r.P50 <= 0 {
		t.Errorf("at a rate: p50 %g ms, %v", r.P50, err)
	}
}

func TestAnIdleWorkerIsWatched(t *testing.T) {
	t.Parallel()
	s := small()
	s.Jobs, s.Idle = 0, 300*time.Millisecond
	r, err := measure(t, fake("none"), s)
	if err != nil {
		t.Fatal(err)
	}
	if r.Seconds < 0.3 || r.IdleCPU <= 0 || r.IdleCPU > 100 {
		t.Errorf("%g %% of a core in %g s", r.IdleCPU, r.Seconds)
	}
}

func TestWrongWorkIsNoResult(t *testing.T) {
	t.Parallel()
	for _, flaw := range []string{"loses", "doubles"} {
		if _, err := measure(t, fake(flaw), small()); !errors.Is(err, lab.ErrWrong) {
			t.Errorf("a worker that %s a job: got %v", flaw, err)
		}
	}
}

func TestAWorkerThatDiesEndsTheRun(t *testing.T) {
	t.Parallel()
	if _, err := measure(t, fake("dies"), small()); err == nil || !strings.Contains(err.Error(), "as told") {
		t.Errorf("got %v, want its last words", err)
	}
}

func TestARunThatTakesTooLongEnds(t *testing.T) {
	t.Parallel()
	why := errors.New("too long")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, why)
	defer cancel()
	if _, err := lab.Measure(ctx, setup(t), fake("stalls"), small()); !errors.Is(err, why) {
		t.Errorf("got %v, want the cause", err)
	}
}

func TestPayloadsAreJSONOfTheSizeAskedFor(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 64, 256, 4096, 256 << 10} {
		for _, n := range []int{0, 1, 99_999} {
			body := lab.Payload(n, size)
			if !json.Valid(body) {
				t.Errorf("payload %d of %d bytes is not JSON: %s", n, size, body)
			}
			if size >= 128 && len(body) != size {
				t.Errorf("payload %d has %d bytes, want %d", n, len(body), size)
			}
		}
	}
}

func TestBatchesPerCommit(t *testing.T) {
	t.Parallel()
	if got := (lab.Result{Batches: 12, Commits: 3}).BatchesPerCommit(); got != 4 {
		t.Errorf("got %g, want 4", got)
	}
	if got := (lab.Result{Batches: 12}).BatchesPerCommit(); got != 0 {
		t.Errorf("got %g without atomic commits, want 0", got)
	}
}

func TestJobsOfABurstAreSentTogether(t *testing.T) {
	t.Parallel()
	s := small()
	s.Jobs, s.Rate, s.Burst, s.Batch, s.Linger = 192, 480, 96, 96, 10*time.Second
	began := time.Now()
	result, err := measure(t, lab.Floor(), s)
	if err != nil {
		t.Fatal(err)
	}
	// The second burst is due after 0.4 s; its 96 jobs make one batch, like those of the first.
	if result.Batches != 2 || time.Since(began) < 400*time.Millisecond {
		t.Errorf("%d batches, want the 2 bursts", result.Batches)
	}
}
