package operate_test

import (
	"context"
	"fmt"
	"iter"
	"os"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"rollcall/internal/bus"
	"rollcall/internal/operate"
)

// A producer publishes a job, and an operator looks where it is.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "operate")
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
	_, _, err = bus.NewSetup(conn, streams(), "mail").Ensure(ctx)
	check(err)

	admin := operate.NewAdmin(conn, streams(), "mail")
	clock, err := admin.Clock(ctx)
	check(err)
	posting := operate.Posting{Subject: "jobs.mail", ID: "invoice-42"}
	check(posting.Prepare())
	publisher, err := operate.NewPublisher(ctx, conn, "JOBS")
	check(err)
	body := iter.Seq2[[]byte, error](func(yield func([]byte, error) bool) { yield([]byte(`{"to":"ada"}`), nil) })
	check(publisher.Publish(ctx, posting.Messages(clock, body), func(m *nats.Msg, _ operate.Receipt) error {
		fmt.Println("stored:", operate.MessageID(m))
		return nil
	}))
	job, err := admin.Job(ctx, "invoice-42")
	check(err)
	fmt.Println("state:", job.State)
	// Output:
	// stored: invoice-42
	// state: waiting
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
