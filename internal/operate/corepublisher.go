package operate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// ErrNobody is returned for a job in core mode that no worker was there to take.
var ErrNobody = errors.New("no worker subscribes to this subject; without a stream the job is lost")

// coreWindow bounds the requests under way at once.
const coreWindow = 256

// CorePublisher sends jobs to subjects without a stream, where workers in core mode take them.
type CorePublisher struct{ conn *bus.Conn }

// NewCorePublisher returns a publisher without a stream.
func NewCorePublisher(conn *bus.Conn) *CorePublisher { return &CorePublisher{conn: conn} }

// Publish sends the messages of source and calls sent for each that a subscriber was there for;
// whether it does the job nobody says. The error wraps [ErrNobody].
func (p *CorePublisher) Publish(ctx context.Context, source Messages, sent func(*nats.Msg) error) error {
	nc := p.conn.NATS()
	// Only a message with a reply subject is reported when nobody subscribes to its subject.
	inbox := nc.NewInbox() + "."
	sub, err := nc.SubscribeSync(inbox + "*")
	if err != nil {
		return fmt.Errorf("subscribe to an inbox: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // a connection that is gone needs none
	n := 0
	for m, err := range source {
		if err != nil {
			return err
		}
		n++
		m.Reply = inbox + strconv.Itoa(n)
		if err := p.send(ctx, sub, m); err != nil {
			return err
		}
		if err := sent(m); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// send publishes a message; the server reports a lack of subscribers before it answers the
// ping that is sent behind the message.
func (p *CorePublisher) send(ctx context.Context, sub *nats.Subscription, m *nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	if err := p.conn.NATS().PublishMsg(m); err != nil {
		return fmt.Errorf("publish to %s: %w", m.Subject, err)
	}
	if err := p.conn.NATS().FlushWithContext(ctx); err != nil {
		return fmt.Errorf("publish to %s: %w", m.Subject, err)
	}
	for {
		waiting, _, err := sub.Pending()
		if err != nil || waiting == 0 {
			return err
		}
		if _, err := sub.NextMsgWithContext(ctx); errors.Is(err, nats.ErrNoResponders) {
			return fmt.Errorf("publish to %s: %w", m.Subject, ErrNobody)
		} else if err != nil {
			return fmt.Errorf("publish to %s: %w", m.Subject, err)
		}
	}
}

// PublishAndWait sends each message of source as a request and calls w.Each with the reply of
// the worker that took it. It returns how many were sent. The error wraps [ErrNobody] or
// [ErrTimeout].
func (p *CorePublisher) PublishAndWait(ctx context.Context, source Messages, w Wait) (published int, err error) {
	if w.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, w.Timeout, ErrTimeout)
		defer cancel()
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	hint := time.AfterFunc(hintAfter, func() {
		if w.Silent != nil {
			w.Silent(ctx)
		}
	})
	defer hint.Stop()
	asked := conversation{each: w.Each, fail: fail, room: make(chan struct{}, coreWindow)}
	for m, fault := range source {
		if fault != nil {
			fail(fault)
		}
		if ctx.Err() != nil {
			break
		}
		published++
		asked.room <- struct{}{} // each request ends with ctx at the latest
		asked.wg.Go(func() {
			defer func() { <-asked.room }()
			asked.record(p.ask(ctx, m))
		})
	}
	asked.wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return published, err
	}
	if asked.failed > 0 {
		return published, notSucceeded(asked.failed, published)
	}
	return published, nil
}

// conversation collects the replies to requests.
type conversation struct {
	each func(JobOutcome) error
	fail context.CancelCauseFunc
	// room has a place for each request that may be under way.
	room chan struct{}
	wg   sync.WaitGroup

	mu     sync.Mutex
	failed int
}

// record counts one reply; the first fault ends the whole conversation.
func (c *conversation) record(o JobOutcome, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		if o.Outcome != jobs.Succeeded {
			c.failed++
		}
		err = c.each(o)
	}
	if err != nil {
		c.fail(err)
	}
}

// ask sends one request and reads the reply: the job's entry of the event.
func (p *CorePublisher) ask(ctx context.Context, m *nats.Msg) (JobOutcome, error) {
	answer, err := p.conn.NATS().RequestMsgWithContext(ctx, m)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return JobOutcome{}, fmt.Errorf("publish to %s: %w", m.Subject, ErrNobody)
	case err != nil && ctx.Err() != nil:
		return JobOutcome{}, fmt.Errorf("no reply from %s: %w", m.Subject, context.Cause(ctx))
	case err != nil:
		return JobOutcome{}, fmt.Errorf("publish to %s: %w", m.Subject, err)
	}
	var o JobOutcome
	if err := json.Unmarshal(answer.Data, &o.EventJob); err != nil || o.Outcome == "" {
		return JobOutcome{}, fmt.Errorf("%s was answered by something that is no worker of Rollcall: %.100q", m.Subject, answer.Data)
	}
	return o, nil
}
