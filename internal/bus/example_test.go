package bus_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
)

// One job from its subject to its committed event: what the pool does with the parts of this
// package, without services.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	dir, err := os.MkdirTemp("", "bus")
	check(err)
	defer os.RemoveAll(dir)
	embedded, err := server.NewServer(&server.Options{JetStream: true, StoreDir: dir, DontListen: true, NoLog: true, NoSigs: true})
	check(err)
	embedded.Start()
	defer embedded.WaitForShutdown()
	defer embedded.Shutdown()

	conn, err := bus.Connect(ctx, bus.Config{}, "example", zerolog.Nop(), nats.InProcessServer(embedded))
	check(err)
	defer conn.Close(ctx)
	setup := bus.NewSetup(conn, streams(), "mail")
	created, _, err := setup.Ensure(ctx)
	check(err)
	fmt.Println("created:", created)

	l := ledger.New(bus.NewDoneStore(conn), ledger.Config{
		Names: ledger.Names{Pool: "mail", Stream: "JOBS"}, EventSubject: bus.EventSubject,
		TTL: func() time.Duration { return streams().LedgerTTL },
	}, zerolog.Nop())
	committing := make(chan error)
	go func() { committing <- l.Run(ctx) }()
	source := bus.NewSource(conn, setup, zerolog.Nop())
	receiving := make(chan error)
	go func() { receiving <- source.Run(ctx) }()

	check(conn.NATS().Publish("jobs.mail.send", []byte(`{"to":"ada"}`)))
	deliveries, err := source.Receive(ctx, jobs.Room{Jobs: 16, Bytes: 1 << 20})
	check(err)
	job := jobs.Decode(deliveries[0], 0)
	fmt.Printf("job: %s %s\n", job.Subject, job.Data)

	settlement := &jobs.Settlement{
		Batch:   &jobs.Batch{ID: "batch-1", Pool: "mail", Jobs: []*jobs.Job{&job}},
		Rulings: []jobs.Ruling{{Outcome: jobs.Succeeded}},
		Replies: make([]jobs.Replies, 1),
	}
	settlement.EncodeEvent(1 << 20)
	told, err := conn.NATS().SubscribeSync(bus.BatchesFilter("mail"))
	check(err)
	check(l.Commit(ctx, settlement))
	check(source.Ack(&job.Delivery))

	event, err := told.NextMsgWithContext(ctx)
	check(err)
	fmt.Println("event:", event.Subject)
	check(source.Close(ctx))
	stop()
	check(<-committing)
	check(<-receiving)
	// Output:
	// created: [stream LATER stream JOBS stream DONE stream DEAD consumer JOBS/mail]
	// job: jobs.mail.send {"to":"ada"}
	// event: batches.mail.succeeded.batch-1
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
