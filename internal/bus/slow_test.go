package bus_test

import (
	"bytes"
	"testing"
	"time"

	"rollcall/internal/jobs"
)

// TestASlowLinkCarriesWhatIsAskedFor: asked for as much as there is room for, the jobs of one
// pull take several leases to arrive, and the broker gives them to others meanwhile.
func TestASlowLinkCarriesWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	const n, size, rate = 400, 2 << 10, 64 << 10
	s := startServer(t, overTCP)
	other := connect(t, s)
	conn, proxy := connectThrough(t, s.Addr().String())
	config := streams()
	config.AckWait = 6 * time.Second
	setup := ensure(t, other, config)
	publish(t, other, "jobs.a", bytes.Repeat([]byte("x"), 90<<10)) // larger than a first pull
	bodies := make([][]byte, n)
	for i := range bodies {
		bodies[i] = bytes.Repeat([]byte("x"), size)
	}
	publish(t, other, "jobs.a", bodies...)
	proxy.Limit(rate)
	source, intake, _ := openSource(t, setup, conn)
	again, begun := 0, time.Now()
	for got := 0; got < n+1; {
		chunk, err := within(t, func() ([]jobs.Delivery, error) {
			return source.Receive(intake, jobs.Room{Jobs: 1536, Bytes: 16 << 20})
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range chunk {
			if d.Delivered > 1 && len(d.Data) == size {
				again++
			}
		}
		got += len(chunk)
		ackAll(t, source, chunk)
	}
	if again > 0 {
		t.Errorf("%d of %d jobs came more than once", again, n)
	}
	if conn.Disconnects() > 0 {
		t.Error("the slow link was taken for a dead one")
	}
	carried := time.Duration(n*size+90<<10) * time.Second / rate
	t.Logf("%v for what the link carries in %v", time.Since(begun), carried)
	proxy.Limit(0)
	eventually(t, "all are settled", func() bool { return jobsLeft(t, other) == 0 })
}
