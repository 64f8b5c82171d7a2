package faulttest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/history"
	"rollcall/internal/jobs"
)

// readAgain is how long the server keeps the consumer of a read that has ended: a test that polls
// must not use up as many as an account may have.
const readAgain = 5 * time.Second

// readAll hands every stored message of a stream that matches filter to each, in order. A broker
// that does not answer is asked again: it may be busy, or a cluster may be electing a leader.
func readAll(ctx context.Context, js jetstream.JetStream, stream, filter string, each func(jetstream.Msg) error) error {
	var stored []jetstream.Msg
	for deadline := time.Now().Add(startLimit); ; {
		var err error
		if stored, err = readOnce(ctx, js, stream, filter); err == nil {
			break
		}
		var refused *jetstream.APIError
		if ctx.Err() != nil || errors.As(err, &refused) && refused.Code < 500 || time.Now().After(deadline) {
			return fmt.Errorf("read stream %s: %w", stream, err)
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
		}
	}
	for _, m := range stored {
		if err := each(m); err != nil {
			return err
		}
	}
	return nil
}

// readOnce reads what the stream's leader has. The consumer may stand on another node, which may lag
// behind: that is an error.
func readOnce(ctx context.Context, js jetstream.JetStream, name, filter string) ([]jetstream.Msg, error) {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	leader, err := stream.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return nil, err
	}
	want := uint64(0)
	for _, n := range leader.State.Subjects {
		want += n
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{FilterSubjects: []string{filter}, InactiveThreshold: readAgain})
	if err != nil {
		return nil, err
	}
	info, err := consumer.Info(ctx)
	if err == nil && info.NumPending < want {
		err = fmt.Errorf("the consumer sees %d messages of %d", info.NumPending, want)
	}
	if err != nil || info.NumPending == 0 {
		return nil, err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return nil, err
	}
	defer messages.Stop()
	stored := make([]jetstream.Msg, 0, info.NumPending)
	for len(stored) < cap(stored) {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return nil, fmt.Errorf("after %d of %d messages: %w", len(stored), cap(stored), err)
		}
		stored = append(stored, m)
	}
	return stored, nil
}

// Events reads the completion events that are stored.
func Events(ctx context.Context, js jetstream.JetStream) ([]history.Event, error) {
	var events []history.Event
	err := readAll(ctx, js, "DONE", "done.batches.>", func(m jetstream.Msg) error {
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		event, err := jobs.DecodeEvent(m.Data())
		if err != nil {
			return fmt.Errorf("%s: %w", m.Subject(), err)
		}
		if want := fmt.Sprintf("done.batches.%s.%s.%s", event.Data.Pool, event.Data.Outcome, event.ID); m.Subject() != want {
			return fmt.Errorf("event %s is stored under %s, want %s", event.ID, m.Subject(), want)
		}
		events = append(events, history.Event{Event: event, Stored: meta.Timestamp})
		return nil
	})
	return events, err
}

// SetEvents reads the events of sets that are stored, by set.
func SetEvents(ctx context.Context, js jetstream.JetStream) (map[string][]jobs.SetEvent, error) {
	events := map[string][]jobs.SetEvent{}
	err := readAll(ctx, js, "DONE", "done.sets.>", func(m jetstream.Msg) error {
		event, err := jobs.DecodeSetEvent(m.Data())
		if err != nil {
			return fmt.Errorf("%s: %w", m.Subject(), err)
		}
		if want := fmt.Sprintf("done.sets.%s.%s.%s", event.Data.Pool, event.Data.Outcome, event.ID); m.Subject() != want {
			return fmt.Errorf("the event of set %s is stored under %s, want %s", event.ID, m.Subject(), want)
		}
		events[event.ID] = append(events[event.ID], event)
		return nil
	})
	return events, err
}

// DeadLetters reads the uids of the dead letters that are stored.
func DeadLetters(ctx context.Context, js jetstream.JetStream) ([]string, error) {
	var uids []string
	err := readAll(ctx, js, "DEAD", "dead.>", func(m jetstream.Msg) error {
		uid := m.Headers().Get("Rollcall-Uid")
		if uid == "" {
			return errors.New("a dead letter without Rollcall-Uid on " + m.Subject())
		}
		uids = append(uids, uid)
		return nil
	})
	return uids, err
}

// WaitRest waits until nothing is left to do: the job stream is empty and the consumer
// neither waits for jobs nor for acks.
func WaitRest(t testing.TB, js jetstream.JetStream, stream, consumer string, limit time.Duration) {
	t.Helper()
	var last string
	deadline := time.After(limit)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		if last = unrest(t.Context(), js, stream, consumer); last == "" {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("not at rest after %v: %s", limit, last)
		}
	}
}

// unrest says what is left to do, empty for nothing.
func unrest(ctx context.Context, js jetstream.JetStream, stream, consumer string) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return err.Error()
	}
	state := s.CachedInfo().State
	c, err := s.Consumer(ctx, consumer)
	if err != nil {
		return err.Error()
	}
	info := c.CachedInfo()
	if state.Msgs == 0 && info.NumPending == 0 && info.NumAckPending == 0 {
		return ""
	}
	return fmt.Sprintf("%s holds %d jobs; %d wait for delivery, %d for an ack, %d were delivered again",
		stream, state.Msgs, info.NumPending, info.NumAckPending, info.NumRedelivered)
}
