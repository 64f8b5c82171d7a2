package operate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

const (
	// publishWindow bounds the jobs that were sent and are not yet confirmed.
	publishWindow = 1024
	// ackTimeout is how long the broker may take to confirm a job.
	ackTimeout = 15 * time.Second
)

// Errors of publishing.
var (
	// ErrNoStream is returned for a subject that the job stream does not hold.
	ErrNoStream = errors.New("the stream does not hold this subject")
	// ErrOpen is returned for a job that is to be the only one of its key while another is open.
	ErrOpen = errors.New("a job of this key is open")
	// ErrUnconfirmed is returned when the PubAck stayed away: the job may be stored or not.
	ErrUnconfirmed = errors.New("the broker did not confirm the job; publishing it again is safe only under the same message id")
)

// Receipt is the confirmation that the broker holds a job.
type Receipt struct {
	Ref jobs.Ref
	// Delayed is set if the job waits in LATER, and that Ref is its place there.
	Delayed bool
	// Duplicate is set if the broker held a job with the same message id already; Ref is
	// then that job's.
	Duplicate bool
}

// UID returns the uid of the job, empty if this user may not look at its stream. A delayed one gets its own when it enters the job stream;
// until then it is later.<epoch of LATER>.<sequence>.
func (r Receipt) UID() string {
	if r.Ref.Epoch == "" {
		return ""
	}
	if r.Delayed {
		return bus.LaterSubject(r.Ref.UID())
	}
	return r.Ref.UID()
}

// Publisher sends jobs to a stream and awaits their PubAcks.
type Publisher struct {
	conn   *bus.Conn
	js     jetstream.JetStream
	stream string
	epoch  string
	holds  []string
}

// NewPublisher looks the stream up: the job stream, or [bus.StreamLater] for delayed jobs. The
// error wraps [bus.ErrMissing] if there is none, and [bus.ErrServerTooOld] if the server cannot
// delay jobs. With an error that wraps [bus.ErrDenied] there is a publisher too: its receipts have no
// uids, and nobody can wait for its jobs. The subscription of nats.go for acks lives as long as the connection: if it
// is cleaned up before its goroutine has looked at the channel it watches, that goroutine waits for
// ever.
func NewPublisher(ctx context.Context, conn *bus.Conn, stream string) (*Publisher, error) {
	if stream == bus.StreamLater {
		if err := bus.CheckDelays(conn.NATS().ConnectedServerVersion()); err != nil {
			return nil, err
		}
	}
	js, err := conn.NewJetStream(
		jetstream.WithPublishAsyncMaxPending(publishWindow+2), // the queue's, and one being handled at either end
		jetstream.WithPublishAsyncTimeout(ackTimeout))
	if err != nil {
		return nil, fmt.Errorf("open JetStream to publish: %w", err)
	}
	s, err := conn.Stream(ctx, stream)
	if errors.Is(err, bus.ErrDenied) {
		return &Publisher{conn: conn, js: js, stream: stream}, err
	}
	if err != nil {
		return nil, err
	}
	info := s.CachedInfo()
	return &Publisher{conn: conn, js: js, stream: stream, epoch: jobs.Epoch(info.Created), holds: info.Config.Subjects}, nil
}

// posted is a job whose confirmation is under way.
type posted struct {
	msg    *nats.Msg
	future jetstream.PubAckFuture
	err    error
}

// Publish sends the messages of source, not waiting for one PubAck before the next message,
// and calls confirmed for each, in their order, once the broker holds it. It ends with the
// first fault: of source, of the broker ([ErrNoStream], [ErrUnconfirmed]) or of confirmed;
// messages sent by then may be stored or not.
func (p *Publisher) Publish(ctx context.Context, source Messages, confirmed func(*nats.Msg, Receipt) error) error {
	p.conn.Tolerate("$SRV.", ServiceName+".", p.conn.API("")) // only what is published itself
	ctx, cancel := p.conn.HeedSubject(ctx, "")
	queue := make(chan posted, publishWindow)
	var wg sync.WaitGroup
	wg.Go(func() { p.send(ctx, source, queue) })
	defer wg.Wait()
	defer cancel()
	for sent := range queue {
		receipt, err := p.await(ctx, sent)
		if err != nil {
			return err
		}
		if err := confirmed(sent.msg, receipt); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// send puts every message on its way, until one cannot be.
func (p *Publisher) send(ctx context.Context, source Messages, queue chan<- posted) {
	defer close(queue)
	for msg, err := range source {
		next := posted{msg: msg, err: err}
		if err == nil {
			next.future, next.err = p.js.PublishMsgAsync(msg, jetstream.WithExpectStream(p.stream), jetstream.WithStallWait(ackTimeout))
		}
		select {
		case queue <- next:
		case <-ctx.Done():
			return
		}
		if next.err != nil {
			return
		}
	}
}

func (p *Publisher) await(ctx context.Context, sent posted) (Receipt, error) {
	if sent.err != nil {
		return Receipt{}, p.explain(sent.msg, sent.err)
	}
	select {
	case ack := <-sent.future.Ok():
		return Receipt{
			Ref: jobs.Ref{Epoch: p.epoch, Seq: ack.Sequence}, Delayed: p.stream == bus.StreamLater, Duplicate: ack.Duplicate,
		}, nil
	case err := <-sent.future.Err():
		return Receipt{}, p.explain(sent.msg, err)
	case <-ctx.Done():
		return Receipt{}, fmt.Errorf("publish to %s: %w", sent.msg.Subject, context.Cause(ctx))
	}
}

// lostSubject reports whether a server refuses a message because its subject holds another than was expected: 10071
// and, in a cluster, 10164 (errors.json, JSStreamWrongLastSequenceErr and its twin for writes that are under way).
func lostSubject(err error) bool {
	const wrongLast, wrongLastUnderWay = 10071, 10164
	var refused *jetstream.APIError
	return errors.As(err, &refused) && (refused.ErrorCode == wrongLast || refused.ErrorCode == wrongLastUnderWay)
}

// explain says what a refusal means. 10060 is the server's reply when another stream holds
// the subject (errors.json, JSStreamNotMatchErr), 10190 when a schedule's target is outside of
// the stream (JSMessageSchedulesTargetInvalidErr), 10077 when a stream has no room (JSStreamStoreFailedF).
func (p *Publisher) explain(msg *nats.Msg, err error) error {
	if msg == nil {
		return err // the fault of the source, which says itself what it is
	}
	subject := msg.Subject
	const notThisStream, targetOutside, full = 10060, 10190, 10077
	var refused *jetstream.APIError
	code := jetstream.ErrorCode(0)
	if errors.As(err, &refused) {
		code = refused.ErrorCode
	}
	switch {
	case lostSubject(err):
		return fmt.Errorf("publish to %s: %w", subject, ErrOpen)
	case errors.Is(err, jetstream.ErrNoStreamResponse), code == notThisStream, code == targetOutside:
		return fmt.Errorf("publish to %s: %w: stream %s holds %v", subject, ErrNoStream, p.stream, p.holds)
	case code == full:
		return fmt.Errorf("publish to %s: stream %s takes no more until jobs have ended or its limits are raised (ROLLCALL_STREAM_BYTES): %w", subject, p.stream, err)
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("publish to %s: the job, headers included, is larger than the server's max_payload (%d bytes): %w",
			subject, p.js.Conn().MaxPayload(), err)
	case errors.Is(err, nats.ErrReconnectBufExceeded):
		return fmt.Errorf("publish to %s: %w: %w", subject, ErrUnconfirmed, nats.ErrDisconnected)
	case errors.Is(err, jetstream.ErrAsyncPublishTimeout), errors.Is(err, nats.ErrDisconnected):
		return fmt.Errorf("publish to %s: %w: %w", subject, ErrUnconfirmed, err)
	default:
		return fmt.Errorf("publish to %s: %w", subject, err)
	}
}
