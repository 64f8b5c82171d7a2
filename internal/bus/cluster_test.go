package bus_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"rollcall/internal/bus"
	"rollcall/internal/faulttest"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
)

// startCluster runs three servers with JetStream, and returns them and their URLs.
func startCluster(t *testing.T) ([]*server.Server, string) {
	t.Helper()
	// The routes must be known before the first server starts.
	var ports []int
	var routes []*url.URL
	for range 3 {
		port := faulttest.FreePort(t)
		ports = append(ports, port)
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", port)})
	}
	var servers []*server.Server
	var urls []string
	for i, port := range ports {
		s := startServer(t, overTCP, func(o *server.Options) {
			o.ServerName, o.Routes = fmt.Sprintf("n%d", i), routes
			o.Cluster = server.ClusterOpts{Name: "three", Host: "127.0.0.1", Port: port}
		})
		servers, urls = append(servers, s), append(urls, s.ClientURL())
	}
	eventually(t, "the cluster has a leader", func() bool {
		current := 0
		for _, s := range servers {
			if s.JetStreamIsCurrent() {
				current++
			}
		}
		return current == 3
	})
	return servers, strings.Join(urls, ",")
}

// TestOneOfThreeServersIsLost runs two replicas of a pool on replicated streams, and takes the
// server away that leads the ledger while they work.
func TestOneOfThreeServersIsLost(t *testing.T) {
	t.Parallel()
	servers, urls := startCluster(t)
	dial := func() *bus.Conn {
		conn, err := bus.Connect(t.Context(), bus.Config{URL: urls}, t.Name(), nopLog())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := conn.Close(context.Background()); err != nil {
				t.Log(err)
			}
		})
		return conn
	}
	conn := dial()
	s := streams()
	s.Replicas, s.AckWait = 3, 10*time.Second
	var setup *bus.Setup
	eventually(t, "streams of three replicas can be made", func() bool {
		setup = bus.NewSetup(conn, s, pool)
		_, _, err := setup.Ensure(t.Context())
		return err == nil
	})
	const total = 600
	publish(t, conn, "jobs.a", numbered(total)...)

	var mu sync.Mutex
	finishedBy := make(map[uint64]string)
	half, all := make(chan struct{}), make(chan struct{})
	note := func(id string, seqs []uint64) {
		mu.Lock()
		defer mu.Unlock()
		for _, seq := range seqs {
			if other, ok := finishedBy[seq]; ok {
				t.Errorf("job %d was finished by %s and by %s", seq, other, id)
			}
			finishedBy[seq] = id
			switch len(finishedBy) {
			case total / 2:
				close(half)
			case total:
				close(all)
			}
		}
	}
	for r := range 2 {
		replica := dial()
		l := runLedger(t, bus.NewDoneStore(replica))
		source, intake, stop := openSource(t, setup, replica)
		ended := make(chan struct{})
		t.Cleanup(func() {
			stop()
			<-ended
		})
		go func() {
			defer close(ended)
			work(t, intake, fmt.Sprintf("r%d", r), source, l, note)
		}()
	}
	<-half
	lead := leader(t, conn)
	for _, server := range servers {
		if server.Name() == lead {
			server.Shutdown()
			server.WaitForShutdown()
		}
	}
	select {
	case <-all:
	case <-time.After(2 * patience):
		mu.Lock()
		defer mu.Unlock()
		t.Fatalf("%d of %d jobs were finished", len(finishedBy), total)
	}
}

// work receives, commits and acks small batches until the intake ends.
func work(t *testing.T, intake context.Context, name string, source *bus.Source, l *ledger.Ledger, note func(string, []uint64)) {
	for b := 0; ; b++ {
		got, err := source.Receive(intake, jobs.Room{Jobs: 32, Bytes: 8 << 20})
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			return
		}
		id := fmt.Sprintf("%sb%d", name, b)
		batch := ledgertest.Settlement(id, jobs.Succeeded)
		for i := range got {
			batch.Batch.Jobs = append(batch.Batch.Jobs, &jobs.Job{Delivery: got[i]})
			batch.Rulings = append(batch.Rulings, jobs.Ruling{Outcome: jobs.Succeeded})
		}
		batch.Replies = make([]jobs.Replies, len(got))
		seqs, err := ledgertest.CommitAll(intake, l, batch)
		if err != nil {
			if intake.Err() == nil {
				t.Error(err)
			}
			return
		}
		note(id, seqs)
		for i := range got {
			// Lost acks come back and are found final.
			_ = source.Ack(&got[i])
		}
	}
}

// leader names the server that leads the DONE stream.
func leader(t *testing.T, conn *bus.Conn) string {
	t.Helper()
	stream, err := jetStream(t, conn).Stream(t.Context(), bus.StreamDone)
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().Cluster.Leader
}
