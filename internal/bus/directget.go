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

func (m *stored) entry() ledger.Entry {
	return ledger.Entry{Subject: m.subject, Seq: m.seq, Stored: m.time, Data: m.data}
}

// replyEnd is how the reply to a batched read ends: how many more messages there are, and the last
// sequence of the stream as the server that answered has it.
type replyEnd struct{ pending, upTo uint64 }

// directGet sends a batched read and calls each for every message of the reply; without any
// there is nothing to call it for, and that is no error.
func (c *Conn) directGet(ctx context.Context, stream string, request []byte, each func(stored)) (end replyEnd, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	inbox := c.nc.NewInbox()
	sub, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		return replyEnd{}, fmt.Errorf("read %s: %w", stream, err)
	}
	defer func() { err = errors.Join(err, unsubscribe(sub)) }()
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return replyEnd{}, fmt.Errorf("read %s: %w", stream, err)
	}
	var m *nats.Msg
	err = untilReady(ctx, func(ctx context.Context) (err error) {
		if err = c.nc.PublishRequest(c.API("DIRECT.GET."+stream), inbox, request); err == nil {
			m, err = sub.NextMsgWithContext(ctx)
		}
		return err
	})
	for first := true; ; first = false {
		if err != nil {
			return replyEnd{}, fmt.Errorf("read %s: %w", stream, err)
		}
		switch status := m.Header.Get("Status"); {
		case status == "404" && first:
			return replyEnd{}, nil
		case status == "204":
			end.pending, _ = parseUint(m.Header.Get("Nats-Num-Pending"))
			end.upTo, _ = parseUint(m.Header.Get("Nats-UpTo-Sequence"))
			return end, nil
		case status == "413":
			return replyEnd{}, fmt.Errorf("read %s: %w", stream, ledger.ErrTooMany)
		case status != "":
			return replyEnd{}, fmt.Errorf("read %s: the server answers %s %s", stream, status, m.Header.Get("Description"))
		}
		message, bad := readStored(m)
		if bad != nil {
			return replyEnd{}, fmt.Errorf("read %s: %w", stream, bad)
		}
		each(message)
		m, err = sub.NextMsgWithContext(ctx)
	}
}

// LastMsg returns the last message of a stream on a subject, or an error that wraps
// [jetstream.ErrMsgNotFound].
func (c *Conn) LastMsg(ctx context.Context, stream jetstream.Stream, subject string) (m *jetstream.RawStreamMsg, err error) {
	err = untilReady(ctx, func(ctx context.Context) (err error) {
		m, err = stream.GetLastMsgForSubject(ctx, subject)
		return err
	})
	return m, err
}

// Msg returns the message of a stream at a sequence, or as opts say, or an error that wraps
// [jetstream.ErrMsgNotFound].
func (c *Conn) Msg(ctx context.Context, stream jetstream.Stream, seq uint64, opts ...jetstream.GetMsgOpt) (m *jetstream.RawStreamMsg, err error) {
	err = untilReady(ctx, func(ctx context.Context) (err error) {
		m, err = stream.GetMsg(ctx, seq, opts...)
		return err
	})
	return m, err
}

// untilReady reads a stream by read, and again while nobody answers, for [readTimeout]: a stream that
// has just been made, or whose servers have just started, takes no direct gets before one of its
// replicas leads or has caught up (server/stream.go, subscribeToDirect).
func untilReady(ctx context.Context, read func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	again := retry.Backoff{Lo: minReady, Hi: maxReady}
	for {
		err := read(ctx)
		if !errors.Is(err, nats.ErrNoResponders) {
			return err
		}
		if waited := retry.Wait(ctx, again.Next()); waited != nil {
			return fmt.Errorf("%w: %w", err, waited)
		}
	}
}

func readStored(m *nats.Msg) (stored, error) {
	seq, ok := parseUint(m.Header.Get("Nats-Sequence"))
	if !ok {
		return stored{}, errors.New("a message without a sequence")
	}
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get("Nats-Time-Stamp"))
	if err != nil {
		return stored{}, fmt.Errorf("a message without a time: %w", err)
	}
	return stored{subject: m.Header.Get("Nats-Subject"), seq: seq, time: at, header: m.Header, data: m.Data}, nil
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
