package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Simple is what a good programmer writes in an hour on the iterator of nats.go: take jobs
// from a durable consumer, gather them into batches, send each to all services at once,
// publish one event and wait for its confirmation, ack. It promises as little as [Floor].
type Simple Loop

// Run works until ctx is done. It reports readiness once its pull request is on its way.
func (f Simple) Run(ctx context.Context, out io.Writer) error {
	s, err := Loop(f).open(ctx)
	if err != nil {
		return err
	}
	defer s.nc.Close()
	return f.consume(ctx, s.js, s.consumer, out)
}

func (f Simple) consume(ctx context.Context, js jetstream.JetStream, consumer jetstream.Consumer, out io.Writer) error {
	held := f.Batch * f.InFlight
	messages := make(chan jetstream.Msg, 2*held) // two pulls: one being worked on, one on its way
	consuming, err := consumer.Consume(func(m jetstream.Msg) { messages <- m }, jetstream.PullMaxMessages(2*held))
	if err != nil {
		return fmt.Errorf("consume: %w", err)
	}
	defer consuming.Stop()
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return fmt.Errorf("report readiness: %w", err)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: f.InFlight}}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	gate := &gate{messages: messages, size: f.Batch, linger: f.Linger}
	var wg sync.WaitGroup
	for range f.InFlight {
		wg.Go(func() {
			for {
				batch := gate.next(ctx)
				if batch == nil {
					return
				}
				if err := f.work(ctx, js, client, batch); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// work is one batch's way: three calls at once, one event, the acks.
func (f Simple) work(ctx context.Context, js jetstream.JetStream, client *http.Client, batch []jetstream.Msg) error {
	var body bytes.Buffer
	event := LoopEvent{Jobs: make([]uint64, len(batch))}
	for i, m := range batch {
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read a message's sequence: %w", err)
		}
		event.Jobs[i] = meta.Sequence.Stream
		body.WriteByte(separator(i))
		body.Write(m.Data())
	}
	body.WriteByte(']')
	errs := make([]error, len(f.Services))
	var wg sync.WaitGroup
	for i, url := range f.Services {
		wg.Go(func() { errs[i] = post(ctx, client, url, body.Bytes()) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	data, err := json.Marshal(event)
	if err != nil {
		return fmt.Errorf("encode an event: %w", err)
	}
	if _, err := js.Publish(ctx, LoopEvents, data); err != nil {
		return fmt.Errorf("publish an event: %w", err)
	}
	for _, m := range batch {
		if err := m.Ack(); err != nil {
			return fmt.Errorf("ack a job: %w", err)
		}
	}
	return nil
}

func separator(i int) byte {
	if i == 0 {
		return '['
	}
	return ','
}

func post(ctx context.Context, client *http.Client, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("build a call: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	return exchange(client, req)
}

// exchange sends a call and reads its reply to the end.
func exchange(client *http.Client, req *http.Request) error {
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("call a service: %w", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return fmt.Errorf("read a reply: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("call a service: %s answered %s", req.URL, resp.Status)
	}
	return nil
}

// gate lets one goroutine at a time gather a batch.
type gate struct {
	mu       sync.Mutex
	messages <-chan jetstream.Msg
	size     int
	linger   time.Duration
}

// next returns the next batch: full, or as large as it got within linger of its first job;
// without linger, what is at hand. It returns nil when ctx is done.
func (g *gate) next(ctx context.Context) []jetstream.Msg {
	g.mu.Lock()
	defer g.mu.Unlock()
	batch := make([]jetstream.Msg, 0, g.size)
	select {
	case m := <-g.messages:
		batch = append(batch, m)
	case <-ctx.Done():
		return nil
	}
	late := time.NewTimer(g.linger)
	defer late.Stop()
	for len(batch) < g.size {
		select { // first what is at hand, so that no linger means "all there is"
		case m := <-g.messages:
			batch = append(batch, m)
			continue
		default:
		}
		select {
		case m := <-g.messages:
			batch = append(batch, m)
		case <-late.C:
			return batch
		case <-ctx.Done():
			return nil
		}
	}
	return batch
}
