package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"rollcall/internal/ledger"
)

const (
	// maxAnswerWait is how long a reply to a commit is waited for before it counts as lost, or a
	// quarter of the horizon, if that is less; maxReadWait is the same for the reply to a ping
	// that follows it. On a slow link it queues behind jobs.
	maxAnswerWait = 5 * time.Second
	maxReadWait   = 30 * time.Second
)

// Headers of an atomic publish (ADR-50; server/stream.go, processJetStreamAtomicBatchMsg).
const (
	headerBatchID     = "Nats-Batch-Id"
	headerBatchSeq    = "Nats-Batch-Sequence"
	headerBatchCommit = "Nats-Batch-Commit"
	headerExpect      = "Nats-Expected-Last-Subject-Sequence"
	headerTTL         = "Nats-TTL"
)

// doneStore keeps the ledger in the DONE stream.
type doneStore struct {
	conn *Conn
	// water is nil where nothing is committed.
	water *HighWater
}

// NewDoneStore returns the store of a ledger in the DONE stream.
func NewDoneStore(conn *Conn) ledger.Store { return doneStore{conn: conn} }

// Apply implements [ledger.Store] by one atomic publish. Only its last message asks for an
// answer; the server checks all expectations when it arrives, and none of the messages is
// visible before (server/jetstream_batching.go, checkMsgHeadersPreClusteredProposal).
func (s doneStore) Apply(ctx context.Context, writes []ledger.Write) (first uint64, err error) {
	if s.water != nil {
		if err := s.water.current(); err != nil {
			return 0, fmt.Errorf("%w: %w", ledger.ErrBusy, err)
		}
	}
	given := ctx
	ctx, cancel := context.WithTimeout(ctx, s.conn.answerWait)
	defer cancel()
	line := s.conn.line.Load()
	id := nuid.Next()
	for i := range writes[:len(writes)-1] {
		if err := s.conn.nc.PublishMsg(message(&writes[i], id, i+1)); err != nil {
			return 0, publishError(err)
		}
	}
	last := message(&writes[len(writes)-1], id, len(writes))
	last.Header[headerBatchCommit] = []string{"1"}
	answer, err := s.conn.nc.RequestMsgWithContext(ctx, last)
	if err != nil {
		if ctx.Err() != nil && given.Err() == nil {
			s.conn.readOrCut(line)
		}
		return 0, publishError(err)
	}
	first, err = readPubAck(answer.Data, len(writes))
	if err == nil && s.water != nil {
		s.water.committed(first, writes)
	}
	return first, err
}

// message returns the write as the seq-th message of an atomic publish.
func message(w *ledger.Write, id string, seq int) *nats.Msg {
	header := nats.Header{
		headerBatchID:  {id},
		headerBatchSeq: {strconv.Itoa(seq)},
		headerExpect:   {strconv.FormatUint(w.Expect, 10)},
	}
	if w.TTL > 0 {
		header[headerTTL] = []string{strconv.FormatInt(int64(max(w.TTL, time.Second)/time.Second), 10)}
	}
	if w.ContentType != "" {
		header["Content-Type"] = []string{w.ContentType}
	}
	if w.Traceparent != "" {
		header["traceparent"] = []string{w.Traceparent}
	}
	return &nats.Msg{Subject: w.Subject, Header: header, Data: w.Data}
}

// publishError sorts the errors of the client: some mean that nothing can have been stored.
func publishError(err error) error {
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: %w", ledger.ErrRefused, err)
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, nats.ErrReconnectBufExceeded):
		return fmt.Errorf("%w: %w", ledger.ErrBusy, err)
	default:
		return err
	}
}

// pubAck is the reply to a publish; the server's own type is JSPubAckResponse.
type pubAck struct {
	Error *struct {
		Code        int    `json:"code"`
		ErrCode     int    `json:"err_code"`
		Description string `json:"description"`
	} `json:"error"`
	Seq   uint64 `json:"seq"`
	Count int    `json:"count"`
}

func decodePubAck(data []byte) (ack pubAck, err error) {
	if err := json.Unmarshal(data, &ack); err != nil {
		return pubAck{}, fmt.Errorf("read the reply to a publish: %w", err)
	}
	return ack, nil
}

// readPubAck returns the sequence of the first of n messages. The reply names the last one;
// the others of an atomic publish are stored right before it.
func readPubAck(data []byte, n int) (first uint64, err error) {
	ack, err := decodePubAck(data)
	if err != nil {
		return 0, err
	}
	if ack.Error == nil {
		if ack.Count != n || ack.Seq < uint64(n) {
			return 0, fmt.Errorf("read the reply to a commit of %d messages: it confirms %d, up to sequence %d", n, ack.Count, ack.Seq)
		}
		return ack.Seq - uint64(n) + 1, nil
	}
	kind := ledger.ErrRefused
	switch {
	case ack.Error.ErrCode == errWrongLastSeq, ack.Error.ErrCode == errWrongLastSeqConst:
		kind = ledger.ErrStale
	case ack.Error.ErrCode == errTooManyGroups, ack.Error.ErrCode == errIncompleteGroup, ack.Error.Code >= 500:
		kind = ledger.ErrBusy
	}
	return 0, fmt.Errorf("%w: %s (%d)", kind, ack.Error.Description, ack.Error.ErrCode)
}
