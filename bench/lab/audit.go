package lab

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrWrong reports that a contender did not do the work it was measured at.
var ErrWrong = errors.New("the events do not name every job exactly once")

// headerBatch names the atomic publish that a message was stored by (ADR-50 of the NATS
// architecture); a plain publish has none.
const headerBatch = "Nats-Batch-Id"

// audited is what the stored events tell.
type audited struct{ batches, commits int }

// audit reads all stored events and checks that each job ended in exactly one of them.
func (l *Lab) audit(ctx context.Context, c Contender, jobs int) (audited, error) {
	events, err := l.js.OrderedConsumer(ctx, c.stream, jetstream.OrderedConsumerConfig{FilterSubjects: []string{c.events}})
	if err != nil {
		return audited{}, fmt.Errorf("read the events of %s: %w", c.Name, err)
	}
	info, err := events.Info(ctx)
	if err != nil {
		return audited{}, fmt.Errorf("count the events of %s: %w", c.Name, err)
	}
	ended := make([]bool, jobs)
	commits := map[string]struct{}{}
	batches := int(info.NumPending)
	messages, err := events.Messages(jetstream.PullMaxMessages(500))
	if err != nil {
		return audited{}, fmt.Errorf("read the events of %s: %w", c.Name, err)
	}
	defer messages.Stop()
	for range batches {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return audited{}, fmt.Errorf("read the events of %s: %w", c.Name, err)
		}
		if id := m.Headers().Get(headerBatch); id != "" {
			commits[id] = struct{}{}
		}
		if err := tick(c, m.Data(), ended); err != nil {
			return audited{}, err
		}
	}
	for i, done := range ended {
		if !done {
			return audited{}, fmt.Errorf("%s: job %d of %d is in none of %d events: %w", c.Name, i+1, jobs, batches, ErrWrong)
		}
	}
	return audited{batches: batches, commits: len(commits)}, nil
}

// tick marks the jobs that an event ends.
func tick(c Contender, event []byte, ended []bool) error {
	final, err := c.final(event)
	if err != nil {
		return err
	}
	for _, seq := range final {
		if seq == 0 || seq > uint64(len(ended)) || ended[seq-1] {
			return fmt.Errorf("%s: job %d of %d is unknown or ended twice: %w", c.Name, seq, len(ended), ErrWrong)
		}
		ended[seq-1] = true
	}
	return nil
}
