// Command publish hands one job to a pool: publish SUBJECT ID BODY. It exits 0 once the broker
// holds the job.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: publish SUBJECT ID BODY")
	}
	nc, err := nats.Connect(os.Getenv("NATS_URL")) // empty = nats://127.0.0.1:4222
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	job := &nats.Msg{
		Subject: os.Args[1],
		Header:  nats.Header{"Nats-Msg-Id": {os.Args[2]}}, // sent twice, it is one job
		Data:    []byte(os.Args[3]),
	}
	// After an error nobody knows whether the broker has the job: send it again, under the same id.
	ack, err := js.PublishMsg(ctx, job)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("stream %s sequence %d duplicate %t\n", ack.Stream, ack.Sequence, ack.Duplicate)
}
