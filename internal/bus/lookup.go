package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// API returns the subject of a request to the JetStream API, for example of "STREAM.INFO.JOBS",
// in the domain or under the prefix that the settings name.
func (c *Conn) API(request string) string { return c.api + "." + request }

// NewJetStream returns a JetStream API of its own, in the domain or under the prefix that the
// settings name.
func (c *Conn) NewJetStream(options ...jetstream.JetStreamOpt) (jetstream.JetStream, error) {
	return jetstream.NewWithAPIPrefix(c.nc, c.api, options...)
}

// JetStream returns the JetStream API of the connection.
func (c *Conn) JetStream() jetstream.JetStream { return c.js }

// Stream looks a stream up. The error wraps [ErrMissing] if there is none.
func (c *Conn) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	ctx, stop := c.Heed(ctx, "STREAM.INFO."+name)
	defer stop()
	asked := c.clock.now()
	stream, err := c.js.Stream(ctx, name)
	if err != nil {
		return nil, c.lookupError("stream "+name, Refused(ctx, err))
	}
	c.clock.Observe(asked, stream.CachedInfo().TimeStamp, c.clock.now())
	return stream, nil
}

// Consumer looks a consumer of a stream up. The error wraps [ErrMissing] if there is none.
func (c *Conn) Consumer(ctx context.Context, stream, name string) (*jetstream.ConsumerInfo, error) {
	ctx, stop := c.Heed(ctx, "CONSUMER.INFO."+stream+"."+name)
	defer stop()
	asked := c.clock.now()
	consumer, err := c.js.Consumer(ctx, stream, name)
	if err != nil {
		return nil, c.lookupError("consumer "+stream+"/"+name, Refused(ctx, err))
	}
	c.clock.Observe(asked, consumer.CachedInfo().TimeStamp, c.clock.now())
	return consumer.CachedInfo(), nil
}

// lookupError says what the failure to look an object up means.
func (c *Conn) lookupError(object string, err error) error {
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("%s is %w; 'worker setup' creates it", object, ErrMissing)
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		return fmt.Errorf("%s is %w; is ROLLCALL_POOL right? If so, 'worker setup' creates it", object, ErrMissing)
	}
	return c.Explain("look up "+object, err)
}

// FirstTime returns when the first message of a stream on filter was stored that has sequence seq or
// a later one; zero if there is none. It asks the leader of the stream, and so needs one right
// whether or not the stream allows direct gets.
func (c *Conn) FirstTime(ctx context.Context, stream, filter string, seq uint64) (time.Time, error) {
	first, err := c.fromLeader(ctx, stream, messageRequest{Seq: max(seq, 1), Next: filter})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	return first.Time, nil
}

// Msg returns the message of a stream at a sequence, or an error that wraps
// [jetstream.ErrMsgNotFound].
func (c *Conn) Msg(ctx context.Context, stream jetstream.Stream, seq uint64) (*jetstream.RawStreamMsg, error) {
	return c.message(ctx, stream, messageRequest{Seq: seq})
}

// NextMsg returns the first message of a stream on filter that has sequence seq or a later one, or an
// error that wraps [jetstream.ErrMsgNotFound].
func (c *Conn) NextMsg(ctx context.Context, stream jetstream.Stream, filter string, seq uint64) (*jetstream.RawStreamMsg, error) {
	return c.message(ctx, stream, messageRequest{Seq: max(seq, 1), Next: filter})
}

// LastMsg returns the last message of a stream on a subject, or an error that wraps
// [jetstream.ErrMsgNotFound].
func (c *Conn) LastMsg(ctx context.Context, stream jetstream.Stream, subject string) (*jetstream.RawStreamMsg, error) {
	return c.message(ctx, stream, messageRequest{Last: subject})
}

// message reads one message. Into DONE only replicas write; of any other stream the leader is asked. A direct
// get adds sequence, subject and time to the headers, where a producer may have written others, and
// hidden them behind an empty line.
func (c *Conn) message(ctx context.Context, stream jetstream.Stream, request messageRequest) (*jetstream.RawStreamMsg, error) {
	config := &stream.CachedInfo().Config
	if config.Name != c.Done() || !config.AllowDirect {
		ctx, cancel := context.WithTimeout(ctx, readTimeout)
		defer cancel()
		return c.fromLeader(ctx, config.Name, request)
	}
	m, found, err := c.directGetOne(ctx, config.Name, request)
	if err == nil && !found {
		err = jetstream.ErrMsgNotFound
	}
	if err != nil {
		return nil, err
	}
	return m.raw(), nil
}

const (
	// lookSize and lookBytes bound what one request of ReadFrom is answered with.
	lookSize  = 1000
	lookBytes = 8 << 20
)

// ReadFrom returns the messages of a stream on filter from sequence seq on, in their order, as
// many as one answer holds, and where to go on; 0 if there are no more. The stream must allow direct gets. Where
// producers write, the sequence, subject and time of a message are what its headers say: [Conn.Msg] knows. Sequences
// that cannot be true have all messages left out, with an error that wraps [ErrForged].
func (c *Conn) ReadFrom(ctx context.Context, stream, filter string, seq uint64) (messages []*jetstream.RawStreamMsg, next uint64, err error) {
	request, err := json.Marshal(struct {
		Seq      uint64 `json:"seq"`
		Next     string `json:"next_by_subj"`
		Batch    int    `json:"batch"`
		MaxBytes int    `json:"max_bytes"`
	}{max(seq, 1), filter, lookSize, lookBytes})
	if err != nil {
		return nil, 0, fmt.Errorf("encode a read of %s: %w", stream, err)
	}
	end, err := c.directGetReadable(ctx, stream, request, func(m stored) {
		messages = append(messages, m.raw())
	})
	if err != nil {
		return messages, 0, err
	}
	if end.last > 0 {
		next = end.last + 1
	}
	forged, at := end.unreadable > 0, seq
	for _, m := range messages {
		forged = forged || m.Sequence < at || m.Sequence >= next
		at = m.Sequence + 1
	}
	if forged {
		return nil, next, fmt.Errorf("read %s: %w", stream, ErrForged)
	}
	return messages, next, nil
}

// ErrForged means that headers of stored messages hide or contradict what the server says of them.
var ErrForged = errors.New("headers of messages say where they are stored")

// denialWindow is longer than anything waits for an answer.
const denialWindow = time.Minute

// Explain adds to an error of the JetStream API how to fix it. attempt says what failed. A missing
// right looks like a time-out to the caller, so the error names the subjects that the server has
// lately denied to this user.
func (c *Conn) Explain(attempt string, err error) error {
	var api *jetstream.APIError
	hint := ""
	switch {
	case errors.Is(err, ErrDenied), errors.Is(err, context.Canceled):
	case errors.Is(err, nats.ErrNoResponders) && errors.Is(err, context.DeadlineExceeded):
		hint = "; no server answers for the stream: none of its replicas leads, or it does not allow direct gets (`nats stream edit --allow-direct`)"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		if denied := c.deniedWithin(denialWindow); len(denied) > 0 {
			return fmt.Errorf("%s: %w: %s", attempt, ErrDenied, strings.Join(denied, ", "))
		}
		hint = "; no answer in time: JetStream has no leader, or NATS_JS_DOMAIN or NATS_JS_API_PREFIX names another one"
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrJetStreamNotEnabled),
		errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		hint = "; enable JetStream on the server (`jetstream {}` in its configuration) and for the account"
	case errors.As(err, &api) && api.ErrorCode == errSubjectsOverlap:
		hint = "; another stream already holds these subjects: set ROLLCALL_STREAM to it, or ROLLCALL_SUBJECTS to others; for a DONE stream: ROLLCALL_DONE must be the same for all pools of an account"
	case errors.As(err, &api) && (api.ErrorCode == errFilterNotUnique || api.ErrorCode == errMultipleUnfiltered):
		hint = "; another pool already takes some of ROLLCALL_SUBJECTS: the subjects of pools on one stream must not overlap; if it is this pool under its old name, `worker setup --take-over OLD` carries on from it"
	case beyondRoom(err):
		hint = "; set ROLLCALL_STREAM_BYTES, ROLLCALL_LATER_BYTES, ROLLCALL_DONE_BYTES and ROLLCALL_DEAD_BYTES so that together they fit what the account may store"
	}
	return fmt.Errorf("%s: %w%s", attempt, err, hint)
}

// beyondRoom reports whether an account refuses a stream for its size, or for having no limit.
func beyondRoom(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == errMaxBytesRequired || api.ErrorCode == errStreamBytes || api.ErrorCode == errNoStorage)
}
