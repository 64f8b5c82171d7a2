package faulttest_test

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/faulttest"
)

func TestBrokerKeepsItsStoreOverAKill(t *testing.T) {
	t.Parallel()
	b := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	js := faulttest.JetStream(t, faulttest.Connect(t, b.URL))
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "s.1", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	b.Kill()
	b.Restart()
	faulttest.Until(t, soon, "the message is still there", func() bool {
		s, err := js.Stream(t.Context(), "S")
		if err != nil {
			return false
		}
		m, err := s.GetMsg(t.Context(), 1)
		return err == nil && string(m.Data) == "kept"
	})
}

func TestBrokerReloadsItsConfiguration(t *testing.T) {
	t.Parallel()
	b := faulttest.StartBroker(t, faulttest.BrokerOptions{Extra: "max_payload: 1024"})
	nc := faulttest.Connect(t, b.URL)
	if got := nc.MaxPayload(); got != 1024 {
		t.Fatalf("max payload %d, want the 1024 of the configuration", got)
	}
	nc.Close()
	b.Configure("1GB", "max_payload: 2048")
	b.Reload()
	if got := faulttest.Connect(t, b.URL).MaxPayload(); got != 2048 {
		t.Errorf("max payload %d after the reload, want 2048", got)
	}
}

func TestFreePortsDiffer(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	for range 1000 {
		port := faulttest.FreePort(t)
		if port < 20000 || port >= 32000 || seen[port] {
			t.Fatalf("port %d is outside the range kept for this, or was given out before", port)
		}
		seen[port] = true
	}
}

func TestConnectIsClosedWithTheTest(t *testing.T) {
	t.Parallel()
	b := faulttest.StartBroker(t, faulttest.BrokerOptions{})
	var nc *nats.Conn
	t.Run("inner", func(t *testing.T) { nc = faulttest.Connect(t, b.URL) })
	if !nc.IsClosed() {
		t.Error("the connection outlived the test that opened it")
	}
}
