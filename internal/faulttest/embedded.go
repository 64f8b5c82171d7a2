package faulttest

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"
)

// ServerLeftovers are options of goleak for the goroutines that may outlive an embedded nats-server that ends while a
// stream is about to source another: a goroutine that waits for a reply for some seconds.
func ServerLeftovers() goleak.Option {
	return goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3")
}

// StartServer starts a nats-server inside the test process, silent and ended with the test.
func StartServer(t testing.TB, o server.Options) *server.Server {
	t.Helper()
	o.NoSigs, o.NoLog = true, true
	s, err := server.NewServer(&o)
	if err != nil {
		t.Fatalf("configure the nats-server: %v", err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(startLimit) {
		t.Fatalf("the nats-server is not ready within %v", startLimit)
	}
	return s
}
