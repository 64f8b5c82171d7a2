package faulttest

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

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
