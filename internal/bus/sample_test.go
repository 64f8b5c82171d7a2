package bus_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"rollcall/internal/bus"
)

// TestASampleCountsAllAndWeighsTheFirst: more than fit into one answer, of which the stream
// itself knows what they take.
func TestASampleCountsAllAndWeighsTheFirst(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	ensure(t, conn, streams())
	js := jetStream(t, conn)
	none, err := conn.Sample(t.Context(), bus.StreamDone, bus.EventsFilter("*"), time.Now().Add(-time.Hour))
	if err != nil || none.Messages != 0 {
		t.Errorf("of nothing: %+v, %v", none, err)
	}
	const n = 250
	for i := range n {
		m := nats.NewMsg(fmt.Sprintf("done.batches.test.succeeded.%03d", i))
		m.Data = make([]byte, 300)
		m.Header = nats.Header{"Content-Type": {"application/cloudevents+json"}, "Nats-TTL": {"86400"}}
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := js.Stream(t.Context(), bus.StreamDone)
	if err != nil {
		t.Fatal(err)
	}
	info := stream.CachedInfo()
	s, err := conn.Sample(t.Context(), bus.StreamDone, bus.EventsFilter("*"), info.State.FirstTime)
	if err != nil {
		t.Fatal(err)
	}
	if want := float64(info.State.Bytes) / n; s.Messages != n || s.Size != want {
		t.Errorf("%d messages of %.1f bytes, want %d of %.1f", s.Messages, s.Size, n, want)
	}
	late, err := conn.Sample(t.Context(), bus.StreamDone, bus.EventsFilter("*"), info.State.LastTime)
	if err != nil || late.Messages != 1 {
		t.Errorf("since the last one: %+v, %v; want that one", late, err)
	}
	if other, err := conn.Sample(t.Context(), bus.StreamDone, bus.EventsFilter("other"), info.State.FirstTime); err != nil || other.Messages != 0 {
		t.Errorf("of another pool: %+v, %v", other, err)
	}
}
