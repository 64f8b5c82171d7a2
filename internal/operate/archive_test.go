package operate_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/operate"
)

// The archive outlives the events of DONE, and reading goes over from one to the other without
// a gap or a double.
func TestEventsSinceAreReadFromTheArchiveToo(t *testing.T) {
	t.Parallel()
	conn, _ := producer(t)
	s := streams()
	s.DoneAge = 24 * time.Hour
	setup := bus.NewSetup(conn, s, pool)
	if _, _, err := setup.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := setup.Archive(t.Context(), time.Hour, 0, false); err == nil {
		t.Error("an archive shorter than DONE was made")
	}
	for _, want := range []bool{true, false} {
		if created, err := setup.Archive(t.Context(), 720*time.Hour, 0, false); err != nil || created != want {
			t.Fatalf("Archive() = %v, %v; want %v", created, err, want)
		}
	}
	js := conn.JetStream()
	put := func(n int) {
		t.Helper()
		if _, err := js.Publish(t.Context(), bus.EventSubject(pool, "succeeded", fmt.Sprint("b", n)), []byte("{}"), jetstream.WithMsgTTL(time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	archived := func() uint64 {
		stream, err := js.Stream(t.Context(), bus.StreamHistory)
		if err != nil {
			t.Fatal(err)
		}
		return stream.CachedInfo().State.Msgs
	}
	put(0)
	put(1)
	eventually(t, "two events are archived", func() bool { return archived() == 2 })
	done, err := js.Stream(t.Context(), bus.StreamDone)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the life of the first two is over", func() bool {
		info, err := done.Info(t.Context())
		return err == nil && info.State.Msgs == 0
	})
	put(2)
	eventually(t, "three events are archived", func() bool { return archived() == 3 })
	var got []string
	err = operate.NewEvents(conn).Since(t.Context(), pool, time.Time{}, false, func(e operate.Event) error {
		got = append(got, e.Pool+" "+string(e.Outcome)+" "+e.BatchID)
		return nil
	})
	if want := []string{"test succeeded b0", "test succeeded b1", "test succeeded b2"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	stream, err := js.Stream(t.Context(), bus.StreamHistory)
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.NumSubjects; n != 1 {
		t.Errorf("the archive has %d subjects; want one for all batches of an outcome", n)
	}
}
