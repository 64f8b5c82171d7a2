package bus_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"rollcall/internal/bus"
	"rollcall/internal/faulttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, faulttest.ServerLeftovers()) }

// patience bounds every wait of a test; only a failing one waits that long.
const patience = 30 * time.Second

// startServer runs a nats-server with JetStream, reached in process only unless change says
// otherwise.
func startServer(t testing.TB, change ...func(*server.Options)) *server.Server {
	t.Helper()
	options := &server.Options{
		JetStream: true, StoreDir: t.TempDir(), DontListen: true, NoLog: true, NoSigs: true,
		MaxPayload: 1 << 20,
	}
	for _, f := range change {
		f(options)
	}
	return runServer(t, options)
}

// runServer runs a nats-server until the test ends.
func runServer(t testing.TB, options *server.Options) *server.Server {
	t.Helper()
	s, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(patience) {
		t.Fatal("the embedded nats-server did not start")
	}
	return s
}

// connect returns a connection to the embedded server, closed when the test ends.
func connect(t testing.TB, s *server.Server) *bus.Conn {
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

// streams are the defaults, with a lease short enough for tests.
func streams() bus.Streams {
	return bus.Streams{
		Source: bus.SourceJetStream, Subjects: []string{"jobs.>"}, Stream: "JOBS", Ensure: true, Replicas: 1,
		AckWait: 2 * time.Second, LedgerTTL: time.Hour, ZombieHorizon: time.Minute, SetMaxAge: 24 * time.Hour, DoneAge: 24 * time.Hour, DeadAge: 720 * time.Hour,
	}
}

const pool = "test"

// ensure makes streams and consumer.
func ensure(t testing.TB, conn *bus.Conn, s bus.Streams) *bus.Setup {
	t.Helper()
	setup := bus.NewSetup(conn, s, pool)
	if _, _, err := setup.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	return setup
}

// jetStream returns the raw API, to look at and break things behind the back of the code
// under test.
func jetStream(t testing.TB, conn *bus.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(conn.NATS())
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// publish stores jobs and waits for their PubAcks.
func publish(t testing.TB, conn *bus.Conn, subject string, bodies ...[]byte) {
	t.Helper()
	js := jetStream(t, conn)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for i, body := range bodies {
		if _, err := js.Publish(ctx, subject, body); err != nil {
			t.Fatalf("publish job %d of %d: %v", i, len(bodies), err)
		}
	}
}

// numbered returns n small bodies.
func numbered(n int) [][]byte {
	bodies := make([][]byte, n)
	for i := range bodies {
		bodies[i] = []byte{byte('0' + i%10)}
	}
	return bodies
}

// eventually polls until the condition holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func nopLog() zerolog.Logger { return zerolog.Nop() }
