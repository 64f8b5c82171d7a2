package devkit_test

import (
	"context"
	"fmt"
	"log"

	"github.com/nats-io/nats.go"

	"rollcall/internal/devkit"
)

// A test or a demo starts a broker of its own, and a service that says ok to every job.
func Example() {
	ctx := context.Background()
	server, err := devkit.Start(ctx, devkit.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Shutdown()
	service, err := devkit.Serve(ctx, "127.0.0.1:0", devkit.Fast(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = service.Shutdown(ctx) }()

	nc, err := nats.Connect(server.URL())
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	fmt.Println(nc.Status())
	// Output: CONNECTED
}
