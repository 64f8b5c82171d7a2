package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/ledger"
	"rollcall/internal/retry"
)

const (
	// readTimeout bounds one batched read.
	readTimeout = 5 * time.Second
	// minStale and maxStale are waits for a server that lags, which is asked staleTries times.
	minStale, maxStale = 5 * time.Millisecond, 200 * time.Millisecond
	staleTries         = 12
	// maxReplies is how many messages a reply has: at most 1024 (server/stream.go,
	// getDirectMulti) and a status.
	maxReplies = 1024 + 1
	// minReady and maxReady are waits for a stream that nobody answers for.
	minReady, maxReady = 10 * time.Millisecond, 500 * time.Millisecond
)

// Read implements [ledger.Store] by batched direct gets of last messages (ADR-31;
// server/stream.go, getDirectMulti: at most 1024 results, one consistent view each).
func (s doneStore) Read(ctx context.Context, subjects []string) (entries []ledger.Entry, err error) {
	for len(subjects) > 0 {
		n := requestSize(subjects, s.conn.nc.MaxPayload())
		request, err := json.Marshal(struct {
			Subjects []string `json:"multi_last"`
		}{subjects[:n]})
		if err != nil {
			return nil, fmt.Errorf("encode a read of %s: %w", s.conn.Done(), err)
		}
		read, err := s.readFresh(ctx, request)
		if err != nil {
			return nil, err
		}
		entries, subjects = append(entries, read...), subjects[n:]
	}
	return entries, nil
}

// readFresh sends a batched read. Followers answer too: one that has less than this replica has
// committed is asked again, and believed only where it goes on lagging.
func (s doneStore) readFresh(ctx context.Context, request []byte) (entries []ledger.Entry, err error) {
	var least uint64
	if s.water != nil {
		least = s.water.streams[1].last.Load()
	}
	again := retry.Backoff{Lo: minStale, Hi: maxStale}
	for tries := 1; ; tries++ {
		entries = nil
		end, err := s.conn.directGet(ctx, s.conn.Done(), request, func(m stored) { entries = append(entries, m.entry()) })
		switch {
		case err != nil:
			return nil, err
		case end.pending > 0:
			return nil, fmt.Errorf("read %s: %w: %d are left", s.conn.Done(), ledger.ErrTooMany, end.pending)
		case end.upTo >= least, len(entries) == 0, tries >= staleTries: // a reply without messages says no sequence
			return entries, nil
		}
		if err := retry.Wait(ctx, again.Next()); err != nil {
			return nil, fmt.Errorf("read %s: %w", s.conn.Done(), err)
		}
	}
}

// requestSize returns how many of subjects fit into one request.
func requestSize(subjects []string, maxPayload int64) int {
	const frame, perSubject = 64, 3
	size := int64(frame)
	for i, subject := range subjects {
		size += int64(len(subject)) + perSubject
		if i > 0 && (i >= ledger.MaxGroup || size > maxPayload) {
			return i
		}
	}
	return len(subjects)
}

// stored is a message read from a stream.
type stored struct {
	subject string
	seq     uint64
	time    time.Time
	header  nats.Header
	data    []byte
}

func (m *stored) raw() *jetstream.RawStreamMsg {
	return &jetstream.RawStreamMsg{Subject: m.subject, Sequence: m.seq, Time: m.time, Header: m.header, Data: m.data}
}

func (m *stored) entry() ledger.Entry {
	return ledger.Entry{Subject: m.subject, Seq: m.seq, Stored: m.time, Data: m.data}
}

// replyEnd is how the reply to a batched read ends.
type replyEnd struct {
	// pending is how many more messages there are, last the sequence of the last one of this reply, and upTo that of
	// the stream, as the server that answered has it.
	pending, last, upTo uint64
	// unreadable messages were left out: their headers hide what the server writes behind them.
	unreadable int
}

// directGet sends a batched read and calls each for every message of the reply; without any
// there is nothing to call it for, and that is no error.
func (c *Conn) directGet(ctx context.Context, stream string, request []byte, each func(stored)) (end replyEnd, err error) {
	end, err = c.directGetReadable(ctx, stream, request, each)
	if err == nil && end.unreadable > 0 {
		err = fmt.Errorf("read %s: %d messages cannot be read", stream, end.unreadable)
	}
	return end, err
}

// directGetReadable is [Conn.directGet] for streams that producers write into: what cannot be read is left out.
func (c *Conn) directGetReadable(ctx context.Context, stream string, request []byte, each func(stored)) (end replyEnd, err error) {
	first := true
	err = c.readDirectly(ctx, stream, request, func(reply *nats.Msg) (more bool, err error) {
		switch status := statusOf(reply); {
		case status == "404" && first:
			return false, nil
		case status == "204":
			end.pending, _ = parseUint(reply.Header.Get("Nats-Num-Pending"))
			end.last, _ = parseUint(reply.Header.Get("Nats-Last-Sequence"))
			end.upTo, _ = parseUint(reply.Header.Get("Nats-UpTo-Sequence"))
			return false, nil
		case status == "413":
			return false, ledger.ErrTooMany
		case status != "":
			return false, unexpected(reply)
		}
		first = false
		if m, err := readStored(reply); err == nil {
			each(m)
		} else {
			end.unreadable++
		}
		return true, nil
	})
	return end, err
}

// directGetOne sends a read of one message; found is false if there is none.
func (c *Conn) directGetOne(ctx context.Context, stream string, request messageRequest) (m stored, found bool, err error) {
	encoded, err := json.Marshal(request)
	if err != nil {
		return stored{}, false, fmt.Errorf("encode a read of %s: %w", stream, err)
	}
	err = c.readDirectly(ctx, stream, encoded, func(reply *nats.Msg) (more bool, err error) {
		switch statusOf(reply) {
		case "":
			m, err = readStored(reply)
			found = err == nil
			return false, err
		case "404":
			return false, nil
		default:
			return false, unexpected(reply)
		}
	})
	return m, found, err
}

func unexpected(reply *nats.Msg) error {
	return fmt.Errorf("the server answers %s %s", reply.Header.Get("Status"), reply.Header.Get("Description"))
}

// readDirectly sends a read and calls each for what comes back, until it says that there is no more.
// It asks again while nobody answers: a stream that has just been made, or whose servers have
// just started, takes no direct gets before one of its replicas leads or has caught up
// (server/stream.go, subscribeToDirect). All of it takes no longer than [readTimeout].
func (c *Conn) readDirectly(ctx context.Context, stream string, request []byte, each func(reply *nats.Msg) (more bool, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	again := retry.Backoff{Lo: minReady, Hi: maxReady}
	for {
		err := c.readOnce(ctx, stream, request, each)
		if errors.Is(err, nats.ErrNoResponders) {
			waited := retry.Wait(ctx, again.Next())
			if waited == nil {
				continue
			}
			err = fmt.Errorf("%w: %w", err, waited)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", stream, err)
		}
		return nil
	}
}

// readOnce is [Conn.readDirectly] without a second try. It reads from a channel, because other
// subscriptions of nats.go take a stored message whose producer wrote "Status: 503" for the
// server's own word.
func (c *Conn) readOnce(ctx context.Context, stream string, request []byte, each func(reply *nats.Msg) (more bool, err error)) (err error) {
	inbox, replies := c.nc.NewInbox(), make(chan *nats.Msg, maxReplies)
	sub, err := c.nc.ChanSubscribe(inbox, replies)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	defer func() { err = errors.Join(err, unsubscribe(sub)) }()
	if err := c.nc.PublishRequest(c.API("DIRECT.GET."+stream), inbox, request); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	for {
		select {
		case reply := <-replies:
			if statusOf(reply) == "503" {
				return nats.ErrNoResponders
			}
			if more, err := each(reply); err != nil || !more {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-c.closed:
			return errors.Join(ErrClosed, c.Err())
		}
	}
}

// statusOf returns the status of a reply, empty for a stored message, whatever its headers say.
func statusOf(reply *nats.Msg) string {
	if len(reply.Header[headerSequence]) > 0 || !wholeStatus(reply) {
		return ""
	}
	return reply.Header.Get("Status")
}

// maxSpace is how many bytes of a status may be spaces after colons and carriage returns: less than what the server
// writes into a message that it reads (server/stream.go, getDirectRequest).
const maxSpace = 32

// wholeStatus reports whether a reply is a status and nothing else. A stored message that passes itself off as one has
// what the server writes behind its headers, hidden by an empty line: it is longer than it reads.
func wholeStatus(reply *nats.Msg) bool {
	length, space := len("NATS/1.0\r\n\r\n"), 0
	for name, values := range reply.Header {
		for _, value := range values {
			if name == "Status" || name == "Description" { // they stand in the first line
				length += len(" ") + len(value)
				continue
			}
			length += len(name) + len(":") + len(value) + len("\n")
			space += len(" ") + len("\r")
		}
	}
	return reply.Size() <= len(reply.Subject)+len(reply.Reply)+length+min(space, maxSpace)
}

// headerSequence is the sequence of a message that was read.
const headerSequence = "Nats-Sequence"

func readStored(reply *nats.Msg) (stored, error) {
	seq, ok := parseUint(added(reply, headerSequence))
	if !ok {
		return stored{}, errors.New("a message without a sequence")
	}
	at, err := time.Parse(time.RFC3339Nano, added(reply, "Nats-Time-Stamp"))
	if err != nil {
		return stored{}, fmt.Errorf("a message without a time: %w", err)
	}
	return stored{subject: added(reply, "Nats-Subject"), seq: seq, time: at, header: reply.Header, data: reply.Data}, nil
}

// added returns what the server has written into a header of a message that it read: it does so behind
// the headers of the producer (server/client.go, genHeader), who may have used the same name.
func added(reply *nats.Msg, name string) string {
	values := reply.Header[name]
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// unsubscribe drops a subscription. One that has ended, or whose connection has, needs no
// unsubscribing.
func unsubscribe(sub *nats.Subscription) error {
	err := sub.Unsubscribe()
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) && !errors.Is(err, nats.ErrBadSubscription) {
		return fmt.Errorf("unsubscribe: %w", err)
	}
	return nil
}
