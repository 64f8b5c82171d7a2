package operate_test

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/operate"
)

func TestEventsFromNextOnAreThoseStillToCome(t *testing.T) {
	t.Parallel()
	conn, _ := producer(t)
	events := operate.NewEvents(conn)
	if _, err := events.Next(t.Context()); !errors.Is(err, bus.ErrMissing) {
		t.Fatalf("without the stream: got %v, want ErrMissing", err)
	}
	js, err := jetstream.New(conn.NATS())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: bus.StreamDone, Subjects: []string{"done.>"}}); err != nil {
		t.Fatal(err)
	}
	put := func(id string) {
		t.Helper()
		if _, err := js.Publish(t.Context(), bus.EventSubject("p", "succeeded", id), []byte(id)); err != nil {
			t.Fatal(err)
		}
	}
	put("old")
	next, err := events.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	put("new")
	enough := errors.New("enough")
	err = events.Stored(t.Context(), "p", next, true, func(e operate.Event) error {
		if e.BatchID != "new" {
			t.Errorf("got %q, which was stored before", e.BatchID)
		}
		return enough
	})
	if !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}
