package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// apiReply is what every reply of the JetStream API has; replies embed it.
type apiReply struct {
	Error *jetstream.APIError `json:"error"`
}

func (r *apiReply) refusal() error {
	if r.Error == nil {
		return nil
	}
	return r.Error
}

// ask sends a request of the JetStream API that nats.go has no call for, for example
// "STREAM.PURGE.DONE", and decodes the reply. A refusal is a [*jetstream.APIError].
func (c *Conn) ask(ctx context.Context, request string, body any, reply interface{ refusal() error }) error {
	encoded, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	answer, err := c.nc.RequestWithContext(ctx, c.API(request), encoded)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer.Data, reply); err != nil {
		return fmt.Errorf("read the reply: %w", err)
	}
	return reply.refusal()
}

// purgeRequest says which messages of a stream go (JSApiStreamPurgeRequest).
type purgeRequest struct {
	Filter string `json:"filter"`
	// Before is the first sequence that stays; 0 = all go.
	Before uint64 `json:"seq,omitempty"`
}

// purge removes messages from a stream. It asks the API itself: nats.go does not return
// how many went.
func (c *Conn) purge(ctx context.Context, stream string, what purgeRequest) (purged uint64, err error) {
	var reply struct {
		apiReply
		Purged uint64 `json:"purged"`
	}
	err = c.ask(ctx, "STREAM.PURGE."+stream, what, &reply)
	return reply.Purged, err
}

// position is where and when a message was stored.
type position struct {
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
}

// first returns the position of the first message of a stream on filter that has sequence seq or a
// later one; the zero position if there is none. It asks the leader of the stream, and so needs
// one right whether or not the stream allows direct gets.
func (c *Conn) first(ctx context.Context, stream, filter string, seq uint64) (position, error) {
	var reply struct {
		apiReply
		Message position `json:"message"`
	}
	err := c.ask(ctx, "STREAM.MSG.GET."+stream, map[string]any{"seq": max(seq, 1), "next_by_subj": filter}, &reply)
	if refusal := new(jetstream.APIError); errors.As(err, &refusal) && refusal.ErrorCode == jetstream.JSErrCodeMessageNotFound {
		return position{}, nil
	}
	return reply.Message, err
}
