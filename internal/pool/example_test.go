package pool_test

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/pool"
)

// A pool takes what its source hands out, sends it to all services, and acks it once the ledger
// has committed what became of it.
func Example() {
	log := &journal{}
	source := newBroker(log)
	billing := service{name: "billing", answer: allOK}
	search := service{name: "search", answer: allOK, optional: true}
	p, err := pool.New(
		pool.Config{
			BatchSize: 2, BatchBytes: jobs.MiB, BatchLinger: time.Second, BatchesInFlight: 1, MaxAttempts: 20,
			RetryMin: time.Second, RetryMax: time.Minute, Pool: "example", Replica: "r1",
		},
		pool.Parts{
			Source: source, Settler: source, Ledger: newLedger(log), DeadLetters: &letters{log: log},
			Services: []pool.Service{billing, search}, Observer: newCounter(), Log: zerolog.Nop(),
			MaxPayload: func() int { return 1 << 20 }, Lease: func() time.Duration { return 30 * time.Second }, Now: time.Now,
			NewID: func() string { return "batch-1" },
		})
	if err != nil {
		fmt.Println(err)
		return
	}
	intake, drain := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(intake, context.Background()) }()

	source.push(deliveries(1, 2)...)
	log.wait("ack 2")
	drain()
	if err := <-ended; err != nil {
		fmt.Println(err)
	}
	for _, line := range log.all() {
		fmt.Println(line)
	}
	// Output:
	// commit 2
	// ack 1
	// ack 2
}
