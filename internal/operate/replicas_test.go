package operate_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/operate"
)

// announce registers a replica until the test ends; the channel gets its requests to drain.
func announce(t *testing.T, conn *bus.Conn, poolName, replica, version string) chan struct{} {
	t.Helper()
	drained := make(chan struct{}, 1)
	withdraw, err := operate.Announce(conn, operate.Announcement{
		Pool: poolName, Replica: replica, Version: version,
		Status: func() jobs.ReplicaState {
			return jobs.ReplicaState{Pool: poolName, Replica: replica, Phase: "working", Ready: true, HeldJobs: 3}
		},
		Drain: func() { drained <- struct{}{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := withdraw(); err != nil {
			t.Error(err)
		}
	})
	return drained
}

func TestReplicasAreFoundAndDrained(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	conn := connect(t, s)
	admin := adminOf(conn)
	if got, err := admin.Replicas(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("without replicas: %v, %v", got, err)
	}
	first := announce(t, connect(t, s), pool, "r1", "v1.2.3")
	second := announce(t, connect(t, s), pool, "r2", "(devel)")
	announce(t, connect(t, s), "other", "r3", "")

	got, err := admin.Replicas(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(got, func(a, b jobs.ReplicaState) int { return len(a.Replica) - len(b.Replica) })
	if len(got) != 2 || !got[0].Ready || got[0].HeldJobs != 3 {
		t.Errorf("replicas: %+v; want the two of this pool", got)
	}
	state, err := admin.Drain(t.Context(), "r2")
	if err != nil || state.Replica != "r2" {
		t.Errorf("drain: %+v, %v", state, err)
	}
	<-second
	select {
	case <-first:
		t.Error("the wrong replica drains")
	default:
	}
	for _, name := range []string{"r3", "nobody", "", "*", "a.b", ">"} {
		if _, err := admin.Drain(t.Context(), name); !errors.Is(err, operate.ErrNotFound) {
			t.Errorf("drain %q: %v", name, err)
		}
	}
}

// A replica whose processor is throttled, or that stops for a moment, is still there.
func TestAReplicaThatIsSlowToAnswerIsListed(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	conn := connect(t, s)
	ensure(t, conn, streams())
	admin := adminOf(conn)
	slow := connect(t, s).NATS()
	answers := map[string]any{
		"$SRV.PING.rollcall":                         micro.Ping{ServiceIdentity: micro.ServiceIdentity{Name: "rollcall", Metadata: map[string]string{"pool": pool, "replica": "r1"}}},
		operate.ReplicaSubject(pool, "r1", "status"): jobs.ReplicaState{Pool: pool, Replica: "r1"},
	}
	for subject, answer := range answers {
		text, err := json.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := slow.Subscribe(subject, func(m *nats.Msg) {
			time.AfterFunc(600*time.Millisecond, func() { _ = m.Respond(text) }) // at the end of the test nobody listens
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := slow.Flush(); err != nil {
		t.Fatal(err)
	}
	if got, err := admin.Replicas(t.Context()); err != nil || len(got) != 1 || got[0].Replica != "r1" {
		t.Errorf("replicas: %+v, %v; want r1", got, err)
	}
}

// TestTheStockToolFindsReplicas asks as `nats micro info` does.
func TestTheStockToolFindsReplicas(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	conn := connect(t, s)
	announce(t, conn, pool, "r1", "v1.2.3")
	m, err := conn.NATS().Request("$SRV.INFO.rollcall", nil, patience)
	if err != nil {
		t.Fatal(err)
	}
	var info micro.Info
	if err := json.Unmarshal(m.Data, &info); err != nil {
		t.Fatal(err)
	}
	if info.Name != "rollcall" || info.Version != "1.2.3" || info.Metadata["pool"] != pool || info.Metadata["replica"] != "r1" || len(info.Endpoints) != 3 {
		t.Errorf("info: %+v", info)
	}
}

func TestAReplicaThatMayNotBeFoundWorksOn(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "worker", Password: "x", Permissions: &server.Permissions{
			Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.worker.>"}},
		}}}
	})
	conn, err := bus.Connect(t.Context(), bus.Config{URL: "nats://127.0.0.1:4222", User: "worker", Password: jobs.NewSecret("x")}, t.Name(), zerolog.Nop(), nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	withdraw, err := operate.Announce(conn, operate.Announcement{Pool: pool, Replica: "r1", Status: func() jobs.ReplicaState { return jobs.ReplicaState{} }})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the denial has arrived", func() bool { return len(conn.Denied()) > 0 })
	if err := conn.Healthy(); err != nil {
		t.Errorf("the connection suffered: %v", err)
	}
	if err := withdraw(); err != nil && !errors.Is(err, nats.ErrBadSubscription) {
		t.Errorf("withdraw: %v", err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Log(err)
	}
}
