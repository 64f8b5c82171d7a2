package bus

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/jobs"
	"rollcall/internal/retry"
)

const (
	minRebind = 50 * time.Millisecond
	maxRebind = 2 * time.Second
	// rebindTimeout bounds one look at stream and consumer.
	rebindTimeout = 5 * time.Second
	// lookEvery is how often stream and consumer are looked at although nothing seems to have
	// happened: somebody may have changed what the consumer allows.
	lookEvery = 10 * time.Second
	// recreateAfter is how long stream or consumer must have been missing before they are made
	// again. The server ends the pulls of a deleted stream before it has removed its files,
	// and a stream made in between is broken: it takes messages and never confirms them, or
	// goes on numbering where the old one ended (seen with nats-server 2.15.2, three runs of five).
	recreateAfter = 2 * time.Second
	// proofAge is how long ago the stream may have been seen for a settlement to be sent. The
	// server settles by sequence alone, so a settlement that reaches a recreated stream
	// settles another job. Shorter than recreateAfter by far.
	proofAge = 100 * time.Millisecond
	// answerAge is how long ago at most the stream was asked for when the answer still counts for
	// what waits for it: on a slow link it queues behind jobs. Shorter than recreateAfter.
	answerAge = 1500 * time.Millisecond
)

// binding is what the source knows of its stream and consumer. A recreated stream numbers its
// jobs from 1 again: handing one out under the old epoch would take it for a job that may be
// long done. So whenever there is a reason to look, deliveries are held until both were looked
// at again, and so are settlements.
type binding struct {
	// reasons counts the reasons to look: the start, a reconnect, a pull refused for another
	// reason than time or size, and consumer sequences that run backwards. looked is how many
	// of them the last look answered.
	reasons uint64
	looked  uint64
	// fault says why there is no binding, nil if there is. logged reports that it was logged.
	fault  error
	logged bool
	// epoch of the stream, the CloudEvents source that follows from it, and when stream and
	// consumer were created.
	epoch    string
	source   string
	stream   time.Time
	consumer time.Time
	// terms are those of the consumer as it stands.
	terms terms
	// proven is when the stream was last known to be the one of the epoch.
	proven time.Time
	// lastSeq is the highest consumer sequence seen: the server counts every delivery up.
	lastSeq uint64
	// inherited is the last sequence of the stream when the binding was looked at again: the
	// server may have lost, with its process or its lead, that it delivered jobs up to there.
	inherited uint64
	// held deliveries wait for the binding to be looked at.
	held []jobs.Delivery
}

// terms are what a consumer allows, whatever the settings say. A limit of 0 is none.
type terms struct {
	lease      time.Duration
	maxJobs    int
	maxBytes   int64
	maxExpires time.Duration
	// group is what every pull has to name.
	group string
}

// termsOf reads them off a consumer's configuration. With a back-off the server takes the
// lease of a delivery from there, one for each count; the shortest holds for all.
func termsOf(config *jetstream.ConsumerConfig) terms {
	t := terms{
		lease: config.AckWait, maxJobs: config.MaxRequestBatch,
		maxBytes: int64(config.MaxRequestMaxBytes), maxExpires: config.MaxRequestExpires, group: priorityGroup,
	}
	if len(config.PriorityGroups) > 0 {
		t.group = config.PriorityGroups[0]
	}
	for _, wait := range config.BackOff {
		t.lease = min(t.lease, wait)
	}
	return t
}

// newBinding returns one that has to be looked at first.
func newBinding() binding { return binding{reasons: 1, fault: errUnbound} }

// open reports whether there is a reason to look that was not answered yet.
func (b *binding) open() bool { return b.reasons != b.looked }

// admit stamps a delivery and reports whether it can be handed out; otherwise it is held.
func (b *binding) admit(d *jobs.Delivery, consumerSeq uint64) bool {
	if consumerSeq <= b.lastSeq {
		b.reasons++
	}
	b.lastSeq = consumerSeq
	if b.open() {
		b.held = append(b.held, *d)
		return false
	}
	b.stamp(d)
	return true
}

// stamp writes onto a delivery what follows from the binding.
func (b *binding) stamp(d *jobs.Delivery) {
	d.Ref.Epoch, d.Source = b.epoch, b.source
	d.Inherited = d.Published.Before(b.consumer) || d.Ref.Seq <= b.inherited
}

// resume makes the source look at stream and consumer before it hands out anything more.
func (s *Source) resume() {
	s.mu.Lock()
	s.pulls.lose()
	s.retry.Reset() // reconnects are paced already, and leases are not renewed before the look
	s.binding.reasons++
	s.mu.Unlock()
	signal(s.check)
}

// Healthy returns nil while the source is bound to its consumer and the broker answers its
// pulls.
func (s *Source) Healthy() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.binding.fault
}

// watch looks at stream and consumer whenever there is a reason to, or a settlement waits for
// it, or nobody has for a while, until ctx is done.
func (s *Source) watch(ctx context.Context) {
	for ctx.Err() == nil {
		s.mu.Lock()
		open, waiting := s.binding.open(), len(s.settlements) > 0
		s.mu.Unlock()
		switch {
		case open:
			s.rebind(ctx)
		case waiting:
			s.prove(ctx)
		default:
			s.await(ctx)
		}
	}
}

// await returns when there may be something to look at. It reads the terms of the consumer
// when that was long ago.
func (s *Source) await(ctx context.Context) {
	t := time.NewTimer(retry.Jitter(lookEvery))
	defer t.Stop()
	select {
	case <-s.check:
	case <-t.C:
		s.refresh(ctx)
	case <-ctx.Done():
	}
}

// rebind looks at stream and consumer, makes them if they are missing and may be made, and
// hands over what was held. Until the broker has answered a pull as it should, each time waits
// longer than the one before.
func (s *Source) rebind(ctx context.Context) {
	s.mu.Lock()
	again, reasons := s.retry.Last(), s.binding.reasons
	s.retry.Next()
	s.mu.Unlock()
	if again > 0 && retry.Wait(ctx, retry.Jitter(again)) != nil {
		return
	}
	found, err := s.look(ctx)
	s.mu.Lock()
	if err != nil {
		if ctx.Err() == nil {
			s.fail(err)
		}
		s.mu.Unlock()
		return
	}
	back := s.adopt(found, reasons)
	s.mu.Unlock()
	signal(s.wake)
	s.flush()
	for i := range back {
		s.giveBack(&back[i])
	}
}

// fail notes why no jobs can be received; the log has it once. The lock is held.
func (s *Source) fail(err error) {
	if s.binding.fault = err; !s.binding.logged {
		s.binding.logged = true
		s.log.Error().Err(err).Msg("no jobs can be received, retrying")
	}
}

// prove makes sure that the stream is still the one of the epoch, for settlements that wait.
func (s *Source) prove(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, rebindTimeout)
	defer cancel()
	begun := time.Now()
	stream, err := s.conn.Stream(ctx, s.setup.streams.Stream)
	s.mu.Lock()
	switch {
	case err != nil, !stream.CachedInfo().Created.Equal(s.binding.stream):
		s.binding.reasons++
	default:
		s.binding.proven = begun
		s.pulls.window.queued(time.Since(begun))
	}
	s.mu.Unlock()
	s.flush()
}

// refresh reads what the consumer allows. It holds nothing up.
func (s *Source) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, rebindTimeout)
	defer cancel()
	consumer, err := s.conn.Consumer(ctx, s.setup.streams.Stream, s.setup.pool)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || !consumer.Created.Equal(s.binding.consumer) {
		s.binding.reasons++
		return
	}
	if s.setup.distorts(&consumer.Config) != nil {
		s.binding.reasons++
		return
	}
	s.binding.terms = termsOf(&consumer.Config)
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
	if err := s.setup.restore(ctx); err != nil {
		return found, err
	}
	return s.find(ctx)
}

func (s *Source) find(ctx context.Context) (binding, error) {
	if err := s.setup.water.current(); err != nil {
		return binding{}, err
	}
	begun := time.Now()
	stream, err := s.conn.Stream(ctx, s.setup.streams.Stream)
	if err != nil {
		return binding{}, err
	}
	consumer, err := s.conn.Consumer(ctx, s.setup.streams.Stream, s.setup.pool)
	if err != nil {
		return binding{}, err
	}
	if err := s.setup.distorts(&consumer.Config); err != nil {
		return binding{}, err
	}
	info := stream.CachedInfo()
	epoch := jobs.Epoch(info.Created)
	return binding{
		epoch:     epoch,
		source:    "/rollcall/" + s.setup.streams.Stream + "/" + epoch,
		stream:    info.Created,
		consumer:  consumer.Created,
		terms:     termsOf(&consumer.Config),
		proven:    begun,
		lastSeq:   consumer.Delivered.Consumer,
		inherited: info.State.LastSeq,
	}, nil
}

// adopt takes over what was found, which ends so many reasons to look. It returns what has to be
// given back because the source is draining. The lock is held.
func (s *Source) adopt(found binding, reasons uint64) (back []jobs.Delivery) {
	b := &s.binding
	if b.fault != nil || !b.stream.Equal(found.stream) || !b.consumer.Equal(found.consumer) {
		s.log.Info().Str("stream", s.setup.streams.Stream).Str("consumer", s.setup.pool).Str("epoch", found.epoch).Msg("receiving jobs")
	}
	if len(b.held) == 0 && !b.consumer.Equal(found.consumer) {
		b.lastSeq = found.lastSeq
	}
	if b.epoch != "" { // at the first look nobody can have handed anything out before
		b.inherited = found.inherited
	}
	if s.refusals < refusalsBearable && s.unanswered < unansweredBearable {
		b.fault, b.logged = nil, false
	}
	b.epoch, b.source, b.stream, b.consumer = found.epoch, found.source, found.stream, found.consumer
	b.terms, b.proven, b.looked = found.terms, found.proven, reasons
	if b.open() {
		return nil
	}
	held := b.held
	b.held = nil
	for i := range held {
		b.stamp(&held[i])
	}
	if s.draining {
		return held
	}
	for i := range held {
		s.readyBytes += int64(len(held[i].Data))
	}
	s.ready = append(s.ready, held...)
	return nil
}

// Lease is how long a job stays ours unless it is extended, as the consumer stands.
func (s *Source) Lease() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease()
}

// lease is [Source.Lease] with the lock held. The settings count until the consumer was looked
// at.
func (s *Source) lease() time.Duration {
	if lease := s.binding.terms.lease; lease > 0 {
		return lease
	}
	return s.setup.streams.AckWait
}
