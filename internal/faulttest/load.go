package faulttest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/history"
	"rollcall/internal/jobs"
)

// window is how many publications are under way at once: enough to fill a batch commit of
// the broker, few enough that a broken one leaves little to repeat.
const window = 256

// stopLimit is how long the jobs under way at the end of a load may take.
const stopLimit = time.Minute

// Load publishes jobs and records every one that the broker accepted. A publication whose
// reply is lost is repeated under the same message id, so that its fate becomes known.
type Load struct {
	t       testing.TB
	js      jetstream.JetStream
	stream  string
	subject string
	epoch   string
	// body of job number n, and its headers besides its id.
	body   func(n int) []byte
	header func(n int) nats.Header

	mu       sync.Mutex
	next     int
	accepted []history.Job
	refusals int
}

// NewLoad publishes to subject, which the stream, already created, must hold.
func NewLoad(t testing.TB, js jetstream.JetStream, stream, subject string) *Load {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatalf("look up stream %s: %v", stream, err)
	}
	return &Load{
		t: t, js: js, stream: stream, subject: subject, epoch: jobs.Epoch(s.CachedInfo().Created),
		body:   func(n int) []byte { return fmt.Appendf(nil, `{"n":%d}`, n) },
		header: func(int) nats.Header { return nil },
	}
}

// Via publishes through another user's connection from now on; the first one only looks the
// stream up.
func (l *Load) Via(js jetstream.JetStream) { l.js = js }

// Body decides what job number n, counting from 0, holds.
func (l *Load) Body(f func(n int) []byte) { l.body = f }

// Header decides which headers job number n, counting from 0, has besides its id.
func (l *Load) Header(f func(n int) nats.Header) { l.header = f }

// Number returns the number of an accepted job, the inverse of its id.
func (l *Load) Number(j history.Job) int {
	n, err := strconv.Atoi(strings.TrimPrefix(j.ID, l.subject+"-"))
	if err != nil {
		l.t.Fatalf("the id %q is not one of this load: %v", j.ID, err)
	}
	return n
}

// Publish publishes n more jobs and returns when each has a PubAck. The test fails if that
// takes longer than limit.
func (l *Load) Publish(n int, limit time.Duration) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), limit)
	defer cancel()
	if err := l.publish(ctx, n); err != nil {
		l.t.Fatalf("publish %d jobs: %v", n, err)
	}
}

// Send publishes one message as it is and waits for its PubAck. The job's id is what a worker
// makes of the headers.
func (l *Load) Send(m *nats.Msg, limit time.Duration) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), limit)
	defer cancel()
	ack, err := l.js.PublishMsg(ctx, m)
	if err != nil {
		l.t.Fatalf("publish to %s: %v", m.Subject, err)
	}
	source := "/rollcall/" + l.stream + "/" + l.epoch
	ref := jobs.Ref{Epoch: l.epoch, Seq: ack.Sequence}
	decoded := jobs.Decode(jobs.Delivery{Subject: m.Subject, Header: m.Header, Data: m.Data, Ref: ref, Source: source}, 0)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accepted = append(l.accepted, history.Job{ID: decoded.ID, UID: ref.UID(), Source: decoded.Source})
}

// Start publishes rate jobs a second in the background, through whatever happens to the
// broker. The returned function ends it and returns when every job begun has a PubAck.
func (l *Load) Start(rate int) (stop func()) {
	l.t.Helper()
	const tick = 50 * time.Millisecond
	ctx, cancel := context.WithCancel(l.t.Context())
	finished := make(chan error, 1)
	go func() {
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		var failed error
		for failed == nil && ctx.Err() == nil {
			// A publication that was begun is finished after the stop too: its fate must be known.
			failed = l.publish(l.t.Context(), max(1, rate*int(tick)/int(time.Second)))
			select {
			case <-ticker.C:
			case <-ctx.Done():
			}
		}
		finished <- failed
	}()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-finished:
				if err != nil {
					l.t.Errorf("background load: %v", err)
				}
			case <-time.After(stopLimit):
				l.t.Errorf("background load: after %v the last jobs still have no PubAck", stopLimit)
			}
		})
	}
	l.t.Cleanup(func() { cancel() })
	return stop
}

func (l *Load) publish(ctx context.Context, n int) error {
	l.mu.Lock()
	first := l.next
	l.next += n
	l.mu.Unlock()
	for numbers := range slices.Chunk(sequence(first, n), window) {
		if err := l.chunk(ctx, numbers); err != nil {
			return err
		}
	}
	return nil
}

// chunk publishes some jobs at once and repeats those without a reply.
func (l *Load) chunk(ctx context.Context, numbers []int) error {
	pending := make(map[int]jetstream.PubAckFuture, len(numbers))
	for _, n := range numbers {
		future, err := l.js.PublishMsgAsync(l.message(n))
		if err == nil {
			pending[n] = future
		}
	}
	for _, n := range numbers {
		if future := pending[n]; future != nil {
			select {
			case ack := <-future.Ok():
				l.accept(n, ack)
				continue
			case <-future.Err():
			case <-time.After(2 * time.Second):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if err := l.insist(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// insist publishes one job until the broker says yes, or says that it never will.
func (l *Load) insist(ctx context.Context, n int) error {
	for {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		ack, err := l.js.PublishMsg(try, l.message(n), jetstream.WithRetryAttempts(0))
		cancel()
		if err == nil {
			l.accept(n, ack)
			return nil
		}
		l.mu.Lock()
		l.refusals++
		l.mu.Unlock()
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("job %d: %w", n, errors.Join(context.Cause(ctx), err))
		}
	}
}

func (l *Load) message(n int) *nats.Msg {
	m := nats.NewMsg(l.subject)
	m.Header.Set(jetstream.MsgIDHeader, l.id(n))
	maps.Copy(m.Header, l.header(n))
	m.Data = l.body(n)
	return m
}

func (l *Load) id(n int) string { return fmt.Sprintf("%s-%d", l.subject, n) }

func (l *Load) accept(n int, ack *jetstream.PubAck) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accepted = append(l.accepted, history.Job{
		ID:     l.id(n),
		UID:    jobs.Ref{Epoch: l.epoch, Seq: ack.Sequence}.UID(),
		Source: "/rollcall/" + l.stream + "/" + l.epoch,
	})
}

// Accepted is every job that the producer holds a PubAck for.
func (l *Load) Accepted() []history.Job {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.accepted)
}

// Refusals counts how often the broker said no to a job, or nothing.
func (l *Load) Refusals() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refusals
}

func sequence(first, n int) []int {
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = first + i
	}
	return numbers
}
