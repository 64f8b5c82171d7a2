package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/retry"
)

const (
	minRebind = 50 * time.Millisecond
	maxRebind = 2 * time.Second
	// rebindTimeout bounds one look at stream and consumer.
	rebindTimeout = 5 * time.Second
	// recreateAfter is how long stream or consumer must have been missing before they are made
	// again. The server tells the pulls of a deleted stream before it has removed its files,
	// and a stream made in between is broken: it takes messages and never confirms them, or
	// goes on numbering where the old one ended (seen with nats-server 2.15.2, three runs of five).
	recreateAfter = 2 * time.Second
)

// binding is what the source believes about its stream and consumer. A recreated stream
// numbers its jobs from 1 again: handing one out under the old epoch would take it for a job
// that may be long done. So whenever the belief is doubted, deliveries are held until both
// were looked at again.
type binding struct {
	// doubts counts the reasons to look: the start, a reconnect, a pull refused for another
	// reason than time or size, and consumer sequences that run backwards. settled is how
	// many of them the last look answered.
	doubts  uint64
	settled uint64
	// fault says why there is no binding, nil if there is. told tells that it was logged.
	fault error
	told  bool
	// epoch of the stream, the CloudEvents source that follows from it, and when stream and
	// consumer were created.
	epoch    string
	source   string
	stream   time.Time
	consumer time.Time
	// lastSeq is the highest consumer sequence seen: the server counts every delivery up.
	lastSeq uint64
	// doubtful is the last sequence of the stream when the binding was looked at again: the
	// server may have lost, with its process or its lead, that it delivered jobs up to there.
	doubtful uint64
	// held deliveries wait for the binding to be looked at.
	held  []jobs.Delivery
	retry retry.Backoff
}

// newBinding returns one that has to be looked at first.
func newBinding() binding {
	return binding{doubts: 1, fault: errUnbound, retry: retry.Backoff{Lo: minRebind, Hi: maxRebind}}
}

func (b *binding) doubted() bool { return b.doubts != b.settled }

// admit stamps a delivery and reports whether it can be handed out; otherwise it is held.
func (b *binding) admit(d *jobs.Delivery, consumerSeq uint64) bool {
	if consumerSeq <= b.lastSeq {
		b.doubts++
	}
	b.lastSeq = consumerSeq
	if b.doubted() {
		b.held = append(b.held, *d)
		return false
	}
	b.stamp(d)
	b.retry.Reset()
	return true
}

// stamp writes onto a delivery what follows from the binding.
func (b *binding) stamp(d *jobs.Delivery) {
	d.Ref.Epoch, d.Source = b.epoch, b.source
	d.Inherited = d.Published.Before(b.consumer) || d.Ref.Seq <= b.doubtful
}

// doubt makes the source look at stream and consumer before it hands out anything more.
func (s *Source) doubt() {
	s.mu.Lock()
	s.binding.doubts++
	s.mu.Unlock()
	s.signal()
}

// Healthy returns nil while the source is bound to its consumer.
func (s *Source) Healthy() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.binding.fault
}

// rebind looks at stream and consumer, makes them if they are missing and may be made, and
// hands over what was held. If that cannot be done now, it pauses and returns nil for the
// caller to try again; an error means that ctx ended or the connection is closed.
func (s *Source) rebind(ctx context.Context) error {
	s.mu.Lock()
	again, doubts := s.binding.retry.Last(), s.binding.doubts
	s.binding.retry.Next()
	s.mu.Unlock()
	if again > 0 && retry.Wait(ctx, retry.Jitter(again)) != nil {
		return nil
	}
	if err := s.conn.Err(); err != nil {
		return fmt.Errorf("receive jobs: %w", err)
	}
	found, err := s.look(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.adopt(found, doubts)
		return nil
	}
	if s.binding.fault = err; !s.binding.told && ctx.Err() == nil {
		s.binding.told = true
		s.log.Error().Err(err).Msg("no jobs can be received, retrying")
	}
	return nil
}

// look reads stream and consumer from the server, and makes them if that is due.
func (s *Source) look(ctx context.Context) (binding, error) {
	ctx, cancel := context.WithTimeout(ctx, rebindTimeout)
	defer cancel()
	found, err := s.find(ctx)
	if !errors.Is(err, ErrMissing) {
		s.missing = time.Time{}
		return found, err
	}
	if s.missing.IsZero() {
		s.missing = time.Now()
	}
	if !s.setup.streams.Ensure || time.Since(s.missing) < recreateAfter {
		return found, err
	}
	if _, _, err := s.setup.Ensure(ctx); err != nil {
		return found, err
	}
	return s.find(ctx)
}

func (s *Source) find(ctx context.Context) (binding, error) {
	if err := s.setup.water.current(); err != nil {
		return binding{}, err
	}
	stream, err := s.conn.Stream(ctx, s.setup.streams.Stream)
	if err != nil {
		return binding{}, err
	}
	consumer, err := s.conn.Consumer(ctx, s.setup.streams.Stream, s.setup.pool)
	if err != nil {
		return binding{}, err
	}
	epoch := jobs.Epoch(stream.CachedInfo().Created)
	return binding{
		epoch:    epoch,
		source:   "/rollcall/" + s.setup.streams.Stream + "/" + epoch,
		stream:   stream.CachedInfo().Created,
		consumer: consumer.Created,
		lastSeq:  consumer.Delivered.Consumer,
		doubtful: stream.CachedInfo().State.LastSeq,
	}, nil
}

// adopt takes what was found for the truth, as an answer to so many doubts.
func (s *Source) adopt(found binding, doubts uint64) {
	b := &s.binding
	if b.fault != nil || !b.stream.Equal(found.stream) || !b.consumer.Equal(found.consumer) {
		s.log.Info().Str("stream", s.setup.streams.Stream).Str("consumer", s.setup.pool).Str("epoch", found.epoch).Msg("receiving jobs")
	}
	if len(b.held) == 0 && !b.consumer.Equal(found.consumer) {
		b.lastSeq = found.lastSeq
	}
	if b.epoch != "" { // the first look has nothing to doubt
		b.doubtful = found.doubtful
	}
	b.fault, b.told = nil, false
	b.epoch, b.source, b.stream, b.consumer = found.epoch, found.source, found.stream, found.consumer
	b.settled = doubts
	if b.doubted() {
		return
	}
	for i := range b.held {
		b.stamp(&b.held[i])
		s.readyBytes += int64(len(b.held[i].Data))
	}
	s.ready = append(s.ready, b.held...)
	b.held = nil
}
