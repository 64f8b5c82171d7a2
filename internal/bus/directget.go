package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"rollcall/internal/ledger"
)

// readTimeout bounds one batched read.
const readTimeout = 5 * time.Second

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
		pending, err := s.conn.directGet(ctx, s.conn.Done(), request, func(m stored) {
			entries = append(entries, m.entry())
		})
		if err == nil && pending > 0 {
			err = fmt.Errorf("read %s: %w: %d are left", s.conn.Done(), ledger.ErrTooMany, pending)
		}
		if err != nil {
			return nil, err
		}
		subjects = subjects[n:]
	}
	return entries, nil
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

// directGet sends a batched read and calls each for every message of the reply; without any
// there is nothing to call it for, and that is no error. pending is how many more there are.
func (c *Conn) directGet(ctx context.Context, stream string, request []byte, each func(stored)) (pending uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	inbox := c.nc.NewInbox()
	sub, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", stream, err)
	}
	defer func() { err = errors.Join(err, unsubscribe(sub)) }()
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return 0, fmt.Errorf("read %s: %w", stream, err)
	}
	if err := c.nc.PublishRequest(c.API("DIRECT.GET."+stream), inbox, request); err != nil {
		return 0, fmt.Errorf("read %s: %w", stream, err)
	}
	for first := true; ; first = false {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", stream, err)
		}
		switch status := m.Header.Get("Status"); {
		case status == "404" && first:
			return 0, nil
		case status == "204":
			pending, _ = parseUint(m.Header.Get("Nats-Num-Pending"))
			return pending, nil
		case status == "413":
			return 0, fmt.Errorf("read %s: %w", stream, ledger.ErrTooMany)
		case status != "":
			return 0, fmt.Errorf("read %s: the server answers %s %s", stream, status, m.Header.Get("Description"))
		}
		message, err := readStored(m)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", stream, err)
		}
		each(message)
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
