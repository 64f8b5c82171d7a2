// Package bustest helps to test what stands on package bus: an embedded nats-server, a pool's streams
// in it, and a source to take jobs from.
package bustest

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
)

// Patience bounds every wait of a test; only a failing one waits that long.
const Patience = 30 * time.Second

// StartServer runs a nats-server with JetStream, reached in process only unless change says
// otherwise.
func StartServer(t testing.TB, change ...func(*server.Options)) *server.Server {
	t.Helper()
	options := &server.Options{
		JetStream: true, StoreDir: t.TempDir(), DontListen: true,
		MaxPayload: 1 << 20,
	}
	for _, f := range change {
		f(options)
	}
	return faulttest.StartServer(t, *options)
}

// Connect returns a connection to the embedded server, closed when the test ends.
func Connect(t testing.TB, s *server.Server) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{URL: "nats://127.0.0.1:4222"}, t.Name(), zerolog.Nop(), nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Logf("close the connection: %v", err)
		}
	})
	return conn
}

// Streams are the defaults, with a lease short enough for tests.
func Streams() bus.Streams {
	return bus.Streams{
		Source: bus.SourceJetStream, Subjects: []string{"jobs.>"}, Stream: "JOBS", Ensure: true, Replicas: 1,
		AckWait: 2 * time.Second, LedgerTTL: time.Hour, ZombieHorizon: time.Minute, SetMaxAge: 24 * time.Hour, DoneAge: 24 * time.Hour, DeadAge: 720 * time.Hour,
	}
}

// Pool is the pool of the tests.
const Pool = "test"

// Ensure makes streams and consumer.
func Ensure(t testing.TB, conn *bus.Conn, s bus.Streams) *bus.Setup {
	t.Helper()
	setup := bus.NewSetup(conn, s, Pool)
	if _, _, err := setup.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	return setup
}

// JetStream returns the raw API, to look at and break things behind the back of the code
// under test.
func JetStream(t testing.TB, conn *bus.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(conn.NATS())
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// Publish stores jobs and waits for their PubAcks.
func Publish(t testing.TB, conn *bus.Conn, subject string, bodies ...[]byte) {
	t.Helper()
	js := JetStream(t, conn)
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	for i, body := range bodies {
		if _, err := js.Publish(ctx, subject, body); err != nil {
			t.Fatalf("publish job %d of %d: %v", i, len(bodies), err)
		}
	}
}

// Numbered returns n small bodies.
func Numbered(n int) [][]byte {
	bodies := make([][]byte, n)
	for i := range bodies {
		bodies[i] = []byte{byte('0' + i%10)}
	}
	return bodies
}

// Eventually polls until the condition holds.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(Patience)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// RunSource runs a source until end is called.
func RunSource(t testing.TB, source interface{ Run(context.Context) error }) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- source.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("run the source: %v", err)
		}
	}
}

// OpenSource returns a source and its intake context; both end with the test.
func OpenSource(t testing.TB, setup *bus.Setup, conn *bus.Conn) (*bus.Source, context.Context, context.CancelFunc) {
	t.Helper()
	source := bus.NewSource(conn, setup, zerolog.Nop())
	intake, stop := context.WithCancel(context.Background())
	end := RunSource(t, source)
	t.Cleanup(func() {
		stop()
		CloseSource(t, source)
		end()
	})
	return source, intake, stop
}

// CloseSource closes a source in good order.
func CloseSource(t testing.TB, source *bus.Source) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := source.Close(ctx); err != nil {
		t.Errorf("close the source: %v", err)
	}
}

// Within fails the test if f takes longer than Patience; f blocks on intake, which must not
// end before the test is done with the source.
func Within[T any](t testing.TB, f func() (T, error)) (T, error) {
	t.Helper()
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := f()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-time.After(Patience):
		t.Fatal("waited in vain")
		panic("unreachable")
	}
}

// Receive collects n deliveries within one room of n.
func Receive(t testing.TB, intake context.Context, source *bus.Source, n int) []jobs.Delivery {
	t.Helper()
	all, err := Within(t, func() (all []jobs.Delivery, err error) {
		for len(all) < n && err == nil {
			var chunk []jobs.Delivery
			chunk, err = source.Receive(intake, jobs.Room{Jobs: n - len(all), Bytes: 8 << 20})
			all = append(all, chunk...)
		}
		return all, err
	})
	if err != nil {
		t.Fatalf("after %d of %d deliveries: %v", len(all), n, err)
	}
	return all
}

// Patient returns a context that ends with the test, or after Patience.
func Patient(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// StateOf reads the state of a stream.
func StateOf(t testing.TB, conn *bus.Conn, name string) jetstream.StreamState {
	t.Helper()
	stream, err := JetStream(t, conn).Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State
}

// EditStream changes the configuration of a stream.
func EditStream(t testing.TB, conn *bus.Conn, name string, edit func(config *jetstream.StreamConfig)) {
	t.Helper()
	js := JetStream(t, conn)
	stream, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	edit(&config)
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
}

// PublishRaw publishes a message with headers that no client library writes, and waits until it is stored.
func PublishRaw(t testing.TB, s *server.Server, subject, header, body string) {
	t.Helper()
	c, err := s.InProcessConn()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lines := bufio.NewScanner(c)
	lines.Scan() // the server speaks first
	_, err = fmt.Fprintf(c, "CONNECT {\"headers\":true,\"verbose\":false}\r\nSUB raw 1\r\nHPUB %s raw %d %d\r\n%s%s\r\n",
		subject, len(header), len(header)+len(body), header, body)
	if err == nil {
		err = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	}
	for err == nil && lines.Scan() {
		if strings.Contains(lines.Text(), `"seq":`) {
			return
		}
	}
	t.Fatalf("a raw message was not stored: %v, %v", err, lines.Err())
}
