package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// readTimeout bounds one batched read.
const readTimeout = 5 * time.Second

// errTooMany is the server's refusal to read that many messages at once.
var errTooMany = errors.New("too many results for one read")

// Read implements [PageStore] by batched direct gets of last messages (ADR-31;
// server/stream.go, getDirectMulti: at most 1024 results, one consistent view each).
func (s doneStore) Read(ctx context.Context, subjects []string) ([]Entry, error) {
	var entries []Entry
	for len(subjects) > 0 {
		n := requestSize(subjects, s.conn.nc.MaxPayload())
		got, err := s.conn.lastMessages(ctx, StreamDone, subjects[:n])
		if err != nil {
			return nil, err
		}
		entries, subjects = append(entries, got...), subjects[n:]
	}
	return entries, nil
}

// requestSize returns how many of subjects fit into one request.
func requestSize(subjects []string, maxPayload int64) int {
	const frame, perSubject = 64, 3
	size := int64(frame)
	for i, subject := range subjects {
		size += int64(len(subject)) + perSubject
		if i > 0 && (i >= MaxGroup || size > maxPayload) {
			return i
		}
	}
	return len(subjects)
}

// lastMessages reads the last message on each subject; wildcards are allowed. The error wraps
// errTooMany if there are more than the server gives at once.
func (c *Conn) lastMessages(ctx context.Context, stream string, subjects []string) (entries []Entry, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	request, err := json.Marshal(struct {
		Subjects []string `json:"multi_last"`
	}{subjects})
	if err != nil {
		return nil, fmt.Errorf("encode a read of %s: %w", stream, err)
	}
	inbox := c.nc.NewInbox()
	sub, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", stream, err)
	}
	defer func() { err = errors.Join(err, unsubscribe(sub)) }()
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return nil, fmt.Errorf("read %s: %w", stream, err)
	}
	if err := c.nc.PublishRequest("$JS.API.DIRECT.GET."+stream, inbox, request); err != nil {
		return nil, fmt.Errorf("read %s: %w", stream, err)
	}
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return nil, fmt.Errorf("read %d subjects of %s: %w", len(subjects), stream, err)
		}
		switch status := m.Header.Get("Status"); {
		case status == "204" && m.Header.Get("Nats-Num-Pending") != "0":
			return nil, fmt.Errorf("read %s: %w", stream, errTooMany)
		case status == "204", status == "404" && len(entries) == 0:
			// The end, or nothing at all.
			return entries, nil
		case status == "413":
			return nil, fmt.Errorf("read %s: %w", stream, errTooMany)
		case status != "":
			return nil, fmt.Errorf("read %s: the server answers %s %s", stream, status, m.Header.Get("Description"))
		}
		seq, ok := parseUint(m.Header.Get("Nats-Sequence"))
		if !ok {
			return nil, fmt.Errorf("read %s: a message without a sequence", stream)
		}
		entries = append(entries, Entry{Subject: m.Header.Get("Nats-Subject"), Seq: seq, Data: m.Data})
	}
}

// unsubscribe drops a subscription. A connection that is gone needs no unsubscribing.
func unsubscribe(sub *nats.Subscription) error {
	if err := sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		return fmt.Errorf("unsubscribe: %w", err)
	}
	return nil
}
