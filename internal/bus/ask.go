package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
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

// messageRequest asks for one message: the one at Seq, the first on Next from Seq on, or the last on
// Last (JSApiMsgGetRequest).
type messageRequest struct {
	Seq  uint64 `json:"seq,omitempty"`
	Next string `json:"next_by_subj,omitempty"`
	Last string `json:"last_by_subj,omitempty"`
}

// fromLeader reads one message of a stream; an error that wraps [jetstream.ErrMsgNotFound] if there is
// none. It asks the leader, and so needs one right whether or not the stream allows direct gets. The reply
// has sequence, subject and time beside the message, where no producer can write.
func (c *Conn) fromLeader(ctx context.Context, stream string, request messageRequest) (*jetstream.RawStreamMsg, error) {
	var reply struct {
		apiReply
		Message struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Header  []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	err := c.ask(ctx, "STREAM.MSG.GET."+stream, request, &reply)
	if refusal := new(jetstream.APIError); errors.As(err, &refusal) && refusal.ErrorCode == jetstream.JSErrCodeMessageNotFound {
		return nil, jetstream.ErrMsgNotFound
	}
	if err != nil {
		return nil, err
	}
	m := &reply.Message
	return &jetstream.RawStreamMsg{Subject: m.Subject, Sequence: m.Seq, Time: m.Time, Header: readHeaders(m.Header), Data: m.Data}, nil
}

// HeadersOfServer begins the names of headers that nats-server acts on.
const HeadersOfServer = "Nats-"

// ActsOnServer reports whether a header is one that nats-server acts on, in whatever case some client may write it.
func ActsOnServer(name string) bool {
	return len(name) >= len(HeadersOfServer) && strings.EqualFold(name[:len(HeadersOfServer)], HeadersOfServer)
}

// readHeaders reads headers as a delivery does, where those that cannot be read are none, but what the server acts on
// as the server does: it looks for a name behind a line's end, CR and LF, wherever that is (server/client.go,
// getHeaderKeyIndex). Clients take a bare LF for one too, and an empty line for the end of all.
func readHeaders(raw []byte) nats.Header {
	header, _ := nats.DecodeHeadersMsg(raw)
	maps.DeleteFunc(header, func(name string, _ []string) bool { return strings.HasPrefix(name, HeadersOfServer) })
	for _, line := range strings.Split(string(raw), "\r\n")[1:] {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.HasPrefix(name, HeadersOfServer) {
			if header == nil {
				header = nats.Header{}
			}
			header[name] = append(header[name], strings.TrimSpace(value))
		}
	}
	return header
}
