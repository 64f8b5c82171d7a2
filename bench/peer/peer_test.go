package peer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"rollcall/bench/peer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// begin runs a child's code in this process until the test ends and returns its first line.
func begin(t *testing.T, run func(context.Context, io.Writer) error) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	reader, writer := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, writer)
		writer.CloseWithError(io.EOF)
		done <- err
	}()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the child ended with: %v", err)
		}
	})
	line := make([]byte, 4096)
	n, err := reader.Read(line)
	if err != nil {
		t.Fatalf("the child ended before it was ready: %v", err)
	}
	return strings.TrimSpace(string(line[:n]))
}

// call posts a body with the given job ids and returns the ids that are to be retried.
func call(t *testing.T, url string, ids ...string) []string {
	t.Helper()
	events := make([]string, len(ids))
	for i, id := range ids {
		events[i] = fmt.Sprintf(`{"specversion":"1.0","id":%q,"data":{"order":%d}}`, id, i)
	}
	resp, err := http.Post(url, "application/json", strings.NewReader("["+strings.Join(events, ",")+"]"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", url, resp.Status, err)
	}
	if len(body) == 0 {
		return nil
	}
	var answer struct {
		Failures []struct {
			Item string `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("the reply %q: %v", body, err)
	}
	var retry []string
	for _, f := range answer.Failures {
		retry = append(retry, f.Item)
	}
	return retry
}

func TestServicesAnswerOnPortsOfTheirOwn(t *testing.T) {
	t.Parallel()
	urls := strings.Fields(begin(t, peer.Services{Count: 3}.Run))
	if len(urls) != 3 || urls[0] == urls[1] || urls[1] == urls[2] {
		t.Fatalf("got the addresses %q, want three", urls)
	}
	for _, url := range urls {
		if retry := call(t, url, "a", "b"); retry != nil {
			t.Errorf("%s wants %q retried, want an empty answer", url, retry)
		}
	}
}

func TestServicesTakeTheirTime(t *testing.T) {
	t.Parallel()
	urls := strings.Fields(begin(t, peer.Services{Count: 1, Delay: 40 * time.Millisecond, Jitter: 10 * time.Millisecond}.Run))
	for range 5 {
		before := time.Now()
		call(t, urls[0], "a")
		if took := time.Since(before); took < 30*time.Millisecond {
			t.Errorf("answered after %s, want 40 ms ± 10 ms", took)
		}
	}
}

func TestTheFirstServiceRefusesAShareOfTheJobsOnce(t *testing.T) {
	t.Parallel()
	urls := strings.Fields(begin(t, peer.Services{Count: 2, RetryShare: 0.1}.Run))
	ids := make([]string, 5000)
	for i := range ids {
		ids[i] = fmt.Sprintf("epoch.%d", i)
	}
	first := call(t, urls[0], ids...)
	if n := len(first); n < 350 || n > 650 { // 500 ± 7 standard deviations
		t.Errorf("%d of 5000 are to be retried, want about a tenth", n)
	}
	if again := call(t, urls[0], ids...); again != nil {
		t.Errorf("%d jobs are refused a second time", len(again))
	}
	if other := call(t, urls[1], ids...); other != nil {
		t.Errorf("the second service refuses %d jobs", len(other))
	}
}

func TestBrokerSaysWhereItListens(t *testing.T) {
	t.Parallel()
	if url := begin(t, peer.Broker{StoreDir: t.TempDir()}.Run); !strings.HasPrefix(url, "nats://127.0.0.1:") || strings.Contains(url, ",") {
		t.Errorf("got %q, want one loopback address", url)
	}
}

func TestBrokerWritesItsProfile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "broker.pprof")
	t.Run("run", func(t *testing.T) { begin(t, peer.Broker{StoreDir: t.TempDir(), Profile: path}.Run) })
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		t.Errorf("the profile: %v, %v", info, err)
	}
	lost := peer.Broker{StoreDir: t.TempDir(), Profile: filepath.Join(path, "nowhere")}
	if err := lost.Run(t.Context(), io.Discard); err == nil {
		t.Error("a profile that cannot be written is no error")
	}
}

// connect returns JetStream of a broker, until the test ends.
func connect(t *testing.T, urls string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(urls)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func TestBrokerOfThreeNodesKeepsThreeReplicas(t *testing.T) {
	t.Parallel()
	urls := begin(t, peer.Broker{StoreDir: t.TempDir(), Nodes: 3, Synced: true}.Run)
	js := connect(t, urls)
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(stream.CachedInfo().Cluster.Replicas); n != 2 || strings.Count(urls, ",") != 2 {
		t.Errorf("%d followers at %s, want 2 and three addresses", n, urls)
	}
}

func TestChildRunsWhatItsArgumentsSay(t *testing.T) {
	t.Parallel()
	args, err := peer.Args(peer.ChildServices, peer.Services{Count: 2})
	if err != nil {
		t.Fatal(err)
	}
	line := begin(t, func(ctx context.Context, out io.Writer) error { return peer.Child(ctx, args, out) })
	if n := len(strings.Fields(line)); n != 2 {
		t.Errorf("%d services run, want 2", n)
	}
}

func TestChildRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"broker"}, {"ghost", "{}"}, {"services", "no JSON"}, {"floor", "{}"}, {"simple", "{}"}} {
		var out bytes.Buffer
		if err := peer.Child(t.Context(), args, &out); err == nil {
			t.Errorf("arguments %q are no error", args)
		}
	}
}

// broken is an output that nobody reads.
type broken struct{}

var errBroken = errors.New("nobody listens")

func (broken) Write([]byte) (int, error) { return 0, errBroken }

func TestAChildThatCannotReportEnds(t *testing.T) {
	t.Parallel()
	if err := (peer.Services{Count: 1}).Run(t.Context(), broken{}); !errors.Is(err, errBroken) {
		t.Errorf("services: got %v", err)
	}
	if err := (peer.Broker{StoreDir: t.TempDir()}).Run(t.Context(), broken{}); !errors.Is(err, errBroken) {
		t.Errorf("broker: got %v", err)
	}
}

// withStreams starts a broker that has the streams of a loop.
func withStreams(ctx context.Context, t *testing.T) (url string, js jetstream.JetStream) {
	t.Helper()
	url = begin(t, peer.Broker{StoreDir: t.TempDir()}.Run)
	js = connect(t, url)
	for _, name := range []string{"jobs", "events"} {
		if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}}); err != nil {
			t.Fatal(err)
		}
	}
	return url, js
}

func TestTheFloorSendsEachJobInARequestOfItsOwn(t *testing.T) {
	t.Parallel()
	const jobs = 100
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	url, js := withStreams(ctx, t)
	for n := range jobs {
		if _, err := js.Publish(ctx, "jobs.x", fmt.Appendf(nil, "job %d", n+1)); err != nil {
			t.Fatal(err)
		}
	}
	seen := make(chan string, 2*jobs)
	service := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen <- r.Header.Get("Idempotency-Key") + ": " + string(body)
	}))
	defer service.Close()
	floor := peer.Floor{URL: url, Stream: "jobs", Services: []string{service.URL}, Batch: 10, InFlight: 2, Linger: time.Millisecond, Requests: 6}
	if line := begin(t, floor.Run); line != "ready" {
		t.Fatalf("got %q", line)
	}
	times := map[string]int{}
	for range jobs {
		select {
		case call := <-seen:
			times[call]++
		case <-ctx.Done():
			t.Fatalf("%d of %d jobs were sent", len(times), jobs)
		}
	}
	for n := range jobs {
		if call := fmt.Sprintf("%d: job %d", n+1, n+1); times[call] != 1 {
			t.Errorf("%q was sent %d times, want once", call, times[call])
		}
	}
}

// TestTheFloorAsksAgainWhereNobodyTookItsPull has a consumer that goes and comes back, as the leader of
// one does in a cluster.
func TestTheFloorAsksAgainWhereNobodyTookItsPull(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	url, js := withStreams(ctx, t)
	called := make(chan struct{}, 1)
	service := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called <- struct{}{} }))
	defer service.Close()
	floor := peer.Floor{URL: url, Stream: "jobs", Services: []string{service.URL}, Batch: 1, InFlight: 1}
	if line := begin(t, floor.Run); line != "ready" {
		t.Fatalf("got %q", line)
	}
	if err := js.DeleteConsumer(ctx, "jobs", peer.LoopConsumer); err != nil {
		t.Fatal(err)
	}
	again := jetstream.ConsumerConfig{Durable: peer.LoopConsumer, AckPolicy: jetstream.AckExplicitPolicy}
	if _, err := js.CreateConsumer(ctx, "jobs", again); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(ctx, "jobs.x", []byte("job")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-called:
	case <-ctx.Done():
		t.Fatal("the floor stands still")
	}
}
