package operate_test

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/operate"
)

// In a stream that keeps what is done, nothing that the consumer has delivered is old or stuck:
// page, alerts and doctor would speak of work that nobody has to do.
func TestWhatIsDoneIsNeitherOldNorStuckInAStreamOfOthers(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	js := jetStream(t, conn)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}}); err != nil {
		t.Fatal(err)
	}
	foreign := streams()
	foreign.Stream, foreign.Subjects, foreign.Start = "ORDERS", []string{"orders.paid.*", "orders.sent.*"}, bus.StartAll
	setup := ensure(t, conn, foreign)
	admin := operate.NewAdmin(conn, foreign, pool)
	publish(t, conn, "orders.paid.a", numbered(2)...)
	publish(t, conn, "orders.other", numbered(1)...)
	publish(t, conn, "orders.sent.a", numbered(1)...)
	source, intake, _ := openSource(t, setup, conn)
	held := receive(t, intake, source, 3)
	oldest := state(t, admin).Oldest
	stream, err := js.Stream(t.Context(), "ORDERS")
	if err != nil {
		t.Fatal(err)
	}
	if first := stream.CachedInfo().State.FirstTime; !oldest.Equal(first) {
		t.Errorf("while all are worked on the oldest is of %v, want that of the first message, %v", oldest, first)
	}
	for i := range held {
		if err := source.Ack(&held[i]); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "nothing is old once all is done", func() bool {
		got := state(t, admin)
		return got.InFlight == 0 && got.Oldest.IsZero() && got.OldestAge() == 0 && got.Stuck == 0 && got.Streams[0].Messages == 4
	})

	publish(t, conn, "orders.other", numbered(1)...)
	publish(t, conn, "orders.sent.b", numbered(1)...)
	last, err := stream.GetLastMsgForSubject(t.Context(), "orders.sent.b")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the oldest that is not done is the only one", func() bool { return state(t, admin).Oldest.Equal(last.Time) })
}
