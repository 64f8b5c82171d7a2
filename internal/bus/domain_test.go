package bus_test

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
)

// leaf returns a hub with JetStream in the domain "hub" and a leaf node of it with JetStream in a
// domain of its own.
func leaf(t testing.TB) (hub, edge *server.Server) {
	t.Helper()
	port := faulttest.FreePort(t)
	hub = startServer(t, overTCP, func(o *server.Options) {
		o.ServerName, o.JetStreamDomain = "hub", "hub"
		o.LeafNode.Host, o.LeafNode.Port = "127.0.0.1", port
	})
	remote := &url.URL{Scheme: "nats-leaf", Host: fmt.Sprintf("127.0.0.1:%d", port)}
	edge = startServer(t, overTCP, func(o *server.Options) {
		o.ServerName, o.JetStreamDomain = "edge", "edge"
		o.LeafNode.Remotes = []*server.RemoteLeafOpts{{URLs: []*url.URL{remote}}}
	})
	// That the two are connected is not enough: the edge learns a little later what the hub listens to.
	api, err := jetstream.NewWithDomain(connect(t, edge).NATS(), "hub")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the hub answers at the leaf node", func() bool {
		_, err := api.AccountInfo(t.Context())
		return err == nil
	})
	return hub, edge
}

// TestADomainIsUsedEverywhere: a worker at a leaf node with the domain of the hub in its settings works
// on the streams of the hub and leaves those of the leaf alone.
func TestADomainIsUsedEverywhere(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]bus.Config{"domain": {JSDomain: "hub"}, "prefix": {JSAPIPrefix: "$JS.hub.API"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hub, edge := leaf(t)
			config.URL = edge.ClientURL()
			conn, err := bus.Connect(t.Context(), config, t.Name(), nopLog())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close(t.Context()) })
			setup := ensure(t, conn, streams())
			atHub := connect(t, hub)
			publish(t, atHub, "jobs.a", numbered(20)...)
			source, intake, _ := openSource(t, setup, conn)
			held := receive(t, intake, source, 20)
			if err := source.Extend(&held[0]); err != nil {
				t.Error(err)
			}

			store := bus.NewUpkeep(conn, setup)
			page := ledgertest.Names().Page(jobs.Ref{Epoch: "e"})
			if _, err := store.Apply(t.Context(), []ledger.Write{{Subject: page, Data: []byte("x")}}); err != nil {
				t.Fatalf("commit: %v", err)
			}
			entries, err := store.Read(t.Context(), []string{page})
			if err != nil || len(entries) != 1 {
				t.Errorf("read %d pages, %v; want the one that was committed", len(entries), err)
			}
			ackAll(t, source, held)
			eventually(t, "the jobs are settled at the hub", func() bool { return jobsLeft(t, atHub) == 0 })
			atEdge := connect(t, edge)
			if n := jetStream(t, atEdge).StreamNames(t.Context()); len(collect(n.Name())) != 0 {
				t.Error("streams were made at the leaf node")
			}
		})
	}
}

func collect[T any](from <-chan T) (all []T) {
	for one := range from {
		all = append(all, one)
	}
	return all
}
