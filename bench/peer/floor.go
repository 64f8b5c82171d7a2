package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Floor is the least that a worker can cost: a loop by somebody who knows the protocol. It
// sends its own pull requests, all answered on one inbox, gathers batches in the callback of
// that subscription, publishes events asynchronously and writes acks straight to the ack
// subjects. What it allocates for a batch it uses again.
type Floor Loop

const (
	// maxPull is the most jobs that one pull request asks for, pullBytes the most bytes: two of them
	// may be under way, and the broker drops a client that it has 64 MiB for.
	maxPull, pullBytes = 1000, 16 << 20
	pullExpiry         = 30 * time.Second
	// askAgain is how long a floor waits after a pull request that nobody took.
	askAgain = 10 * time.Millisecond
)

// floorBatch is the jobs of one batch, and what is built of them.
type floorBatch struct {
	bodies [][]byte
	acks   []string
	body   []byte
	event  []byte
}

// floorRun is a floor at work.
type floorRun struct {
	Floor
	opened
	client *http.Client
	urls   []*url.URL
	inbox  string
	pull   string
	ask    []byte
	// size is how many jobs a pull request asks for.
	size  int
	ready chan *floorBatch
	spare sync.Pool
	fail  context.CancelCauseFunc

	mu sync.Mutex
	// asked counts the jobs that pull requests under way may still bring.
	asked int
	open  *floorBatch
	late  *time.Timer
}

// Run works until ctx is done. It reports readiness once its pull requests are on their way.
func (f Floor) Run(ctx context.Context, out io.Writer) error {
	o, err := Loop(f).open(ctx)
	if err != nil {
		return err
	}
	defer o.nc.Close()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	r := &floorRun{
		Floor: f, opened: o, fail: fail,
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: max(f.InFlight, f.Requests) + 8, DisableCompression: true, WriteBufferSize: 32 << 10}},
		inbox:  o.nc.NewInbox(),
		pull:   "$JS.API.CONSUMER.MSG.NEXT." + f.Stream + "." + LoopConsumer,
		size:   min(maxPull, pullBytes/max(f.Payload, 1)),
		ready:  make(chan *floorBatch),
	}
	r.ask = fmt.Appendf(nil, `{"batch":%d,"expires":%d}`, r.size, pullExpiry)
	defer r.client.CloseIdleConnections()
	r.spare.New = func() any { return &floorBatch{} }
	for _, raw := range f.Services {
		target, err := url.Parse(raw)
		if err != nil {
			return fmt.Errorf("read the URL of a service: %w", err)
		}
		r.urls = append(r.urls, target)
	}
	return r.run(ctx, out)
}

func (r *floorRun) run(ctx context.Context, out io.Writer) error {
	r.late = time.AfterFunc(time.Hour, func() { r.seal(ctx) })
	defer r.late.Stop()
	sub, err := r.nc.Subscribe(r.inbox, func(m *nats.Msg) { r.arrive(ctx, m) })
	if err != nil {
		return fmt.Errorf("subscribe for jobs: %w", err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return fmt.Errorf("lift the limits of the subscription: %w", err)
	}
	r.mu.Lock()
	r.request()
	r.mu.Unlock()
	if err := r.nc.Flush(); err != nil {
		return fmt.Errorf("send the first pull requests: %w", err)
	}
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return fmt.Errorf("report readiness: %w", err)
	}
	var slots sync.WaitGroup
	for range r.InFlight {
		slots.Go(func() { r.slot(ctx) })
	}
	slots.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// request keeps two pull requests under way. The caller holds the lock.
func (r *floorRun) request() {
	for r.asked+r.size <= 2*r.size {
		if err := r.nc.PublishRequest(r.pull, r.inbox, r.ask); err != nil {
			r.fail(fmt.Errorf("ask for jobs: %w", err))
			return
		}
		r.asked += r.size
	}
}

func (r *floorRun) requestAgain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.request()
}

// arrive takes a job, or the status that ends a pull request, which names how many jobs that
// request did not bring. One that names none was not taken: the consumer has no leader at the moment.
func (r *floorRun) arrive(ctx context.Context, m *nats.Msg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.Reply == "" {
		rest, err := strconv.Atoi(m.Header.Get("Nats-Pending-Messages"))
		if err != nil {
			r.asked = max(r.asked-r.size, 0)
			time.AfterFunc(askAgain, r.requestAgain)
			return
		}
		r.asked = max(r.asked-rest, 0)
		r.request()
		return
	}
	r.asked--
	r.request()
	if r.open == nil {
		r.open = r.spare.Get().(*floorBatch)
		if r.Batch > 1 {
			r.late.Reset(r.Linger)
		}
	}
	r.open.bodies = append(r.open.bodies, m.Data)
	r.open.acks = append(r.open.acks, m.Reply)
	if len(r.open.acks) == r.Batch {
		r.hand(ctx)
	}
}

// seal hands out the open batch when it has lingered.
func (r *floorRun) seal(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open != nil {
		r.hand(ctx)
	}
}

// hand gives the open batch to a slot. While none is free it waits, and the subscription with it.
func (r *floorRun) hand(ctx context.Context) {
	select {
	case r.ready <- r.open:
	case <-ctx.Done():
	}
	r.open = nil
}

func (r *floorRun) slot(ctx context.Context) {
	for {
		select {
		case b := <-r.ready:
			if err := r.work(ctx, b); err != nil {
				r.fail(err)
				return
			}
			b.reset()
			r.spare.Put(b)
		case <-ctx.Done():
			return
		}
	}
}

// work is one batch's way: all calls at once, one event, the acks.
func (r *floorRun) work(ctx context.Context, b *floorBatch) error {
	b.encode()
	call := r.together
	if r.Requests > 0 {
		call = r.each
	}
	errs := make([]error, len(r.urls))
	var calls sync.WaitGroup
	for i := range r.urls[1:] {
		calls.Go(func() { errs[i+1] = call(ctx, r.urls[i+1], b) })
	}
	errs[0] = call(ctx, r.urls[0], b)
	calls.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	future, err := r.js.PublishAsync(LoopEvents, b.event)
	if err != nil {
		return fmt.Errorf("publish an event: %w", err)
	}
	select {
	case <-future.Ok():
	case err := <-future.Err():
		return fmt.Errorf("publish an event: %w", err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for _, ack := range b.acks {
		if err := r.nc.Publish(ack, nil); err != nil {
			return fmt.Errorf("ack a job: %w", err)
		}
	}
	return nil
}

// together sends all jobs of a batch in one request.
func (r *floorRun) together(ctx context.Context, target *url.URL, b *floorBatch) error {
	return r.post(ctx, target, http.Header{"Content-Type": {"application/json"}}, b.body)
}

// each sends a request for every job of a batch, with an idempotency key. The slots share out how
// many there may be at once.
func (r *floorRun) each(ctx context.Context, target *url.URL, b *floorBatch) error {
	senders := max(r.Requests/r.InFlight, 1)
	errs := make([]error, senders)
	var wg sync.WaitGroup
	for n := range senders {
		wg.Go(func() {
			for i := n; i < len(b.bodies) && errs[n] == nil; i += senders {
				errs[n] = r.post(ctx, target, http.Header{
					"Content-Type": {"application/json"}, "Idempotency-Key": {streamSequence(b.acks[i])},
				}, b.bodies[i])
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (r *floorRun) post(ctx context.Context, target *url.URL, header http.Header, body []byte) error {
	req := (&http.Request{
		Method: http.MethodPost, URL: target, Host: target.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}).WithContext(ctx)
	return exchange(r.client, req)
}

// encode builds the body of the calls and the event.
func (b *floorBatch) encode() {
	b.event = append(b.event[:0], `{"jobs":[`...)
	b.body = b.body[:0]
	for i, body := range b.bodies {
		b.body = append(append(b.body, separator(i)), body...)
		if i > 0 {
			b.event = append(b.event, ',')
		}
		b.event = append(b.event, streamSequence(b.acks[i])...)
	}
	b.body = append(b.body, ']')
	b.event = append(b.event, "]}"...)
}

func (b *floorBatch) reset() {
	clear(b.bodies)
	clear(b.acks)
	b.bodies, b.acks = b.bodies[:0], b.acks[:0]
}

// streamSequence reads the stream sequence off an ack subject without domain:
// $JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.<…>.
func streamSequence(ack string) string {
	for range 5 {
		_, ack, _ = strings.Cut(ack, ".")
	}
	seq, _, _ := strings.Cut(ack, ".")
	return seq
}
