package operate

import (
	"context"
	"fmt"
	"iter"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
)

// storedMessage is a message, and where it is in its stream.
type storedMessage struct {
	jetstream.Msg
	*jetstream.MsgMetadata
}

// readStored yields the messages of a stream that config selects, in their order, up to the last
// one that the stream had when it was looked up. With follow it goes on until ctx is done. what
// names the work in errors; an error is the last thing it yields.
func readStored(ctx context.Context, conn *bus.Conn, stream jetstream.Stream, config jetstream.OrderedConsumerConfig, what string, follow bool) iter.Seq2[storedMessage, error] {
	return func(yield func(storedMessage, error) bool) {
		consumer, err := stream.OrderedConsumer(ctx, config)
		if err != nil {
			yield(storedMessage{}, conn.Explain(what, err))
			return
		}
		if !follow && consumer.CachedInfo().NumPending == 0 {
			return
		}
		messages, err := consumer.Messages()
		if err != nil {
			yield(storedMessage{}, conn.Explain(what, err))
			return
		}
		defer messages.Stop()
		for {
			m, err := messages.Next(jetstream.NextContext(ctx))
			if err != nil {
				if !follow || ctx.Err() == nil {
					yield(storedMessage{}, fmt.Errorf("%s: %w", what, err))
				}
				return
			}
			meta, err := m.Metadata()
			if err != nil {
				yield(storedMessage{}, fmt.Errorf("%s: %w", what, err))
				return
			}
			if !yield(storedMessage{m, meta}, nil) {
				return
			}
			if !follow && (meta.NumPending == 0 || meta.Sequence.Stream >= stream.CachedInfo().State.LastSeq) {
				return
			}
		}
	}
}
