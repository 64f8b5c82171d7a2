package operate_test

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
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
	"rollcall/internal/operate"
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
		AckWait: 2 * time.Second, LedgerTTL: time.Hour, ZombieHorizon: time.Minute,
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

// openSource returns a source and its intake context; both end with the test.
func openSource(t testing.TB, setup *bus.Setup, conn *bus.Conn) (*bus.Source, context.Context, context.CancelFunc) {
	t.Helper()
	source := bus.NewSource(conn, setup, nopLog())
	intake, stop := context.WithCancel(context.Background())
	life, end := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- source.Run(life) }()
	t.Cleanup(func() {
		stop()
		closeSource(t, source)
		end()
		if err := <-ran; err != nil {
			t.Errorf("run the source: %v", err)
		}
	})
	return source, intake, stop
}

func closeSource(t testing.TB, source *bus.Source) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := source.Close(ctx); err != nil {
		t.Errorf("close the source: %v", err)
	}
}

// within fails the test if f takes longer than patience; f blocks on intake, which must not
// end before the test is done with the source.
func within[T any](t testing.TB, f func() (T, error)) (T, error) {
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
	case <-time.After(patience):
		t.Fatal("waited in vain")
		panic("unreachable")
	}
}

// receive collects n deliveries within one room of n.
func receive(t testing.TB, intake context.Context, source *bus.Source, n int) []jobs.Delivery {
	t.Helper()
	all, err := within(t, func() (all []jobs.Delivery, err error) {
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

// runLedger returns a ledger whose committer runs until the test ends.
func runLedger(t testing.TB, conn *bus.Conn) *ledger.Ledger {
	t.Helper()
	config := ledgertest.Config()
	config.EventSubject = bus.EventSubject
	return ledgertest.Run(t, ledger.New(bus.NewDoneStore(conn), config, nopLog()))
}

func patient(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// adminOf returns the administration of the pool of these tests.
func adminOf(conn *bus.Conn) *operate.Admin { return operate.NewAdmin(conn, streams(), pool) }
