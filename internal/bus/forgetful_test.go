package bus_test

import (
	"testing"

	"rollcall/internal/jobs"
)

// TestServerMayHaveForgottenDeliveries: a server that was killed forgets the last deliveries
// and acks of a consumer and hands settled jobs out again, as if for the first time. After a
// reconnect, whatever was in the stream by then must be looked up in the ledger.
func TestServerMayHaveForgottenDeliveries(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	source, intake, _ := openSource(t, setup, conn)
	next := func() jobs.Delivery {
		t.Helper()
		all, err := source.Receive(intake, jobs.Room{Jobs: 1, Bytes: 8 << 20})
		if err != nil || len(all) != 1 {
			t.Fatalf("received %d jobs, %v; want one", len(all), err)
		}
		if err := source.Ack(&all[0]); err != nil {
			t.Fatal(err)
		}
		return all[0]
	}
	publish(t, conn, "jobs.a", numbered(1)...)
	if d := next(); !d.First() {
		t.Errorf("the first delivery of a new job counts as a later one: %+v", d)
	}
	publish(t, conn, "jobs.a", numbered(1)...)
	if err := conn.NATS().ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "connected again", func() bool { return conn.Reconnects() == 1 && conn.Healthy() == nil })
	if d := next(); d.Ref.Seq != 2 || d.First() {
		t.Errorf("a job from before the reconnect counts as new: %+v", d)
	}
	publish(t, conn, "jobs.a", numbered(1)...)
	if d := next(); d.Ref.Seq != 3 || !d.First() {
		t.Errorf("a job from after the reconnect counts as a later delivery: %+v", d)
	}
}
