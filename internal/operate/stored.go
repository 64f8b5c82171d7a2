package operate

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
)

// storedMessage is a message, and where it is in its stream.
type storedMessage struct {
	jetstream.Msg
	*jetstream.MsgMetadata
}

// stall is how long the next message of those that a stream holds is waited for. Behind it they are
// asked for anew: what was counted may have been deleted since, or have reached its age.
const stall = 5 * time.Second

// readStored yields the messages of a stream that config selects by subject and beginning, in their
// order, up to the last one that the stream had when it was looked up. With follow it goes on until ctx is
// done. what names the work in errors; an error is the last thing it yields.
func readStored(ctx context.Context, conn *bus.Conn, stream jetstream.Stream, config jetstream.OrderedConsumerConfig, what string, follow bool) iter.Seq2[storedMessage, error] {
	return func(yield func(storedMessage, error) bool) {
		for again := true; again; {
			again = readOn(ctx, conn, stream, &config, what, follow, yield)
		}
	}
}

// readOn is [readStored] until all is read, or until nothing comes although something should: then it
// reports that the rest has to be asked for again, and leaves the beginning of that in config.
func readOn(ctx context.Context, conn *bus.Conn, stream jetstream.Stream, config *jetstream.OrderedConsumerConfig, what string, follow bool, yield func(storedMessage, error) bool) (again bool) {
	consumer, err := stream.OrderedConsumer(ctx, *config)
	if err != nil {
		yield(storedMessage{}, conn.Explain(what, err))
		return false
	}
	if !follow && consumer.CachedInfo().NumPending == 0 {
		return false
	}
	messages, err := consumer.Messages()
	if err != nil {
		yield(storedMessage{}, conn.Explain(what, err))
		return false
	}
	defer messages.Stop()
	for {
		m, err := nextStored(ctx, messages, follow)
		if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			return true
		}
		if err != nil {
			if !follow || ctx.Err() == nil {
				yield(storedMessage{}, fmt.Errorf("%s: %w", what, err))
			}
			return false
		}
		meta, err := m.Metadata()
		if err != nil {
			yield(storedMessage{}, fmt.Errorf("%s: %w", what, err))
			return false
		}
		config.DeliverPolicy, config.OptStartSeq, config.OptStartTime = jetstream.DeliverByStartSequencePolicy, meta.Sequence.Stream+1, nil
		if !yield(storedMessage{m, meta}, nil) {
			return false
		}
		if !follow && (meta.NumPending == 0 || meta.Sequence.Stream >= stream.CachedInfo().State.LastSeq) {
			return false
		}
	}
}

// nextStored waits for a message, at most for [stall] where it is stored already.
func nextStored(ctx context.Context, messages jetstream.MessagesContext, follow bool) (jetstream.Msg, error) {
	if !follow {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, stall)
		defer cancel()
	}
	return messages.Next(jetstream.NextContext(ctx))
}
