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
		r := storedReader{conn, stream, config, what, follow}
		for again := true; again; {
			var err error
			if again, err = r.read(ctx, yield); err != nil {
				yield(storedMessage{}, err)
			}
		}
	}
}

// storedReader is a reading of [readStored]. Its config begins behind what was read.
type storedReader struct {
	conn   *bus.Conn
	stream jetstream.Stream
	config jetstream.OrderedConsumerConfig
	what   string
	follow bool
}

// read yields until all is read, or until nothing comes although something should: then the rest has
// to be read again.
func (r *storedReader) read(ctx context.Context, yield func(storedMessage, error) bool) (again bool, err error) {
	consumer, err := r.stream.OrderedConsumer(ctx, r.config)
	if err != nil {
		return false, r.conn.Explain(r.what, err)
	}
	if !r.follow && consumer.CachedInfo().NumPending == 0 {
		return false, nil
	}
	messages, err := consumer.Messages()
	if err != nil {
		return false, r.conn.Explain(r.what, err)
	}
	defer messages.Stop()
	for {
		m, err := r.next(ctx, messages)
		switch {
		case err == nil:
		case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
			return true, nil
		case r.follow && ctx.Err() != nil:
			return false, nil
		default:
			return false, fmt.Errorf("%s: %w", r.what, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return false, fmt.Errorf("%s: %w", r.what, err)
		}
		r.config.DeliverPolicy, r.config.OptStartSeq, r.config.OptStartTime = jetstream.DeliverByStartSequencePolicy, meta.Sequence.Stream+1, nil
		last := !r.follow && (meta.NumPending == 0 || meta.Sequence.Stream >= r.stream.CachedInfo().State.LastSeq)
		if !yield(storedMessage{m, meta}, nil) || last {
			return false, nil
		}
	}
}

// next waits for a message, at most for [stall] where it is stored already.
func (r *storedReader) next(ctx context.Context, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	if !r.follow {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, stall)
		defer cancel()
	}
	return messages.Next(jetstream.NextContext(ctx))
}
