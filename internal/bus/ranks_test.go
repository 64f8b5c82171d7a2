package bus_test

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

func TestNeighboursGoToTheSameReplica(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	conn, other := connect(t, s), connect(t, s)
	setup := ensure(t, conn, streams())
	second, intake, _ := openSource(t, setup, conn)
	second.Draw(func(int) int { return 7 })
	first, intakeOther, _ := openSource(t, bus.NewSetup(other, streams(), pool), other)
	first.Draw(func(int) int { return 2 })

	got := make(chan []jobs.Delivery, 1)
	go func() { got <- receive(t, intake, second, 8) }()
	waitForPulls(t, conn, 1)
	gotOther := make(chan []jobs.Delivery, 1)
	go func() { gotOther <- receive(t, intakeOther, first, 32) }()
	waitForPulls(t, conn, 2)
	publish(t, conn, "jobs.test", numbered(40)...)

	for i, d := range <-gotOther {
		if d.Ref.Seq != uint64(i+1) {
			t.Errorf("delivery %d to the replica of the lower rank is job %d, want its pull filled first", i, d.Ref.Seq)
		}
	}
	for i, d := range <-got {
		if d.Ref.Seq != uint64(i+33) {
			t.Errorf("delivery %d to the replica of the higher rank is job %d, want what the other had no room for", i, d.Ref.Seq)
		}
	}
}

func TestAConsumerWithoutRanksServesToo(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	js := jetStream(t, conn)
	if err := js.DeleteConsumer(t.Context(), "JOBS", pool); err != nil {
		t.Fatal(err)
	}
	plain := jetstream.ConsumerConfig{Durable: pool, AckPolicy: jetstream.AckExplicitPolicy, FilterSubject: "jobs.>"}
	if _, err := js.CreateConsumer(t.Context(), "JOBS", plain); err != nil {
		t.Fatal(err)
	}
	publish(t, conn, "jobs.test", numbered(20)...)
	source, intake, _ := openSource(t, setup, conn)
	if n := len(receive(t, intake, source, 20)); n != 20 {
		t.Errorf("%d deliveries, want 20", n)
	}
}
