package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/jobs"
)

// consumerObject is the durable consumer that the replicas of a pool share.
type consumerObject struct {
	setup *Setup
	want  jetstream.ConsumerConfig
	// from is the sequence that a new consumer begins at; 0 = as ROLLCALL_START says.
	from uint64
}

func (o consumerObject) name() string {
	return "consumer " + o.setup.streams.Stream + "/" + o.want.Durable
}

func (o consumerObject) essential() bool { return true }

func (o consumerObject) check(ctx context.Context) ([]Difference, error) {
	info, err := o.info(ctx)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
		return o.missing(ctx)
	case err != nil:
		return nil, err
	}
	return o.setup.consumerDifferences(&info.Config)
}

// info looks the consumer up, of whatever kind it is: nats.go has a call for each kind.
func (o consumerObject) info(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	consumer, err := o.setup.conn.js.Consumer(ctx, o.setup.streams.Stream, o.want.Durable)
	if err == nil {
		return consumer.CachedInfo(), nil
	}
	if !errors.Is(err, jetstream.ErrNotPullConsumer) {
		return nil, err
	}
	push, err := o.setup.conn.js.PushConsumer(ctx, o.setup.streams.Stream, o.want.Durable)
	if err != nil {
		return nil, err
	}
	return push.CachedInfo(), nil
}

// distorting are the fields by which a consumer hands out something else than the pool's jobs,
// or forgets what it has handed out.
var distorting = [...]string{"headers_only", "filter_subjects", "ack_policy", "deliver_subject"}

// distorts returns why jobs must not be taken from a consumer as it stands. Somebody may have
// changed it while the pool works.
func (s *Setup) distorts(have *jetstream.ConsumerConfig) error {
	found, err := s.consumerDifferences(have)
	if err != nil {
		return err
	}
	return Refusal(slices.DeleteFunc(found, func(d Difference) bool { return !slices.Contains(distorting[:], d.Field) }))
}

// restore makes again what has gone while the pool works. A consumer of a stream that keeps
// what is done is left to people: a new one would begin somewhere else than where the old one
// was.
func (s *Setup) restore(ctx context.Context) error {
	stream, err := s.conn.js.Stream(ctx, s.streams.Stream)
	if err == nil && stream.CachedInfo().Config.Retention != jetstream.WorkQueuePolicy {
		return fmt.Errorf("consumer %s/%s is %w, and stream %s keeps what is done: make it again where it should go on, by nats consumer add --deliver, or by `worker setup` with ROLLCALL_START=new or all",
			s.streams.Stream, s.pool, ErrMissing, s.streams.Stream)
	}
	_, drift, err := s.Ensure(ctx)
	if err == nil {
		err = Refusal(drift)
	}
	return err
}

// missing says what a new consumer would begin with.
func (o consumerObject) missing(ctx context.Context) ([]Difference, error) {
	difference := Difference{Object: o.name(), Missing: true}
	history, err := o.setup.history(ctx)
	if err != nil {
		return nil, err
	}
	difference.Harm = history.String()
	return []Difference{difference}, nil
}

// consumerDifferences compares the pool's consumer with what is wanted.
func (s *Setup) consumerDifferences(have *jetstream.ConsumerConfig) ([]Difference, error) {
	want := s.consumerConfig()
	return differences("consumer "+s.streams.Stream+"/"+s.pool, have, &want, consumerEffects(have, &want, s.conn.nc.MaxPayload()))
}

// create makes the consumer. A server may limit how many jobs can be out at once and does not
// say where its limit is, so smaller numbers are tried.
func (o consumerObject) create(ctx context.Context) error {
	want := o.want
	if o.from > 0 {
		want.DeliverPolicy, want.OptStartSeq = jetstream.DeliverByStartSequencePolicy, o.from
	} else {
		history, err := o.setup.history(ctx)
		if err != nil {
			return err
		}
		if err := history.refuse(o.setup); err != nil {
			return err
		}
		if o.setup.streams.Start == StartNew && history.repeats {
			want.DeliverPolicy = jetstream.DeliverNewPolicy
		}
	}
	var err error
	for _, pending := range [...]int{want.MaxAckPending, 100_000, 20_000, 5_000, 1_000, 100} {
		want.MaxAckPending = pending
		_, err = o.setup.conn.js.CreateConsumer(ctx, o.setup.streams.Stream, want)
		var api *jetstream.APIError
		if !errors.As(err, &api) || api.ErrorCode != errMaxAckPending {
			return err
		}
	}
	return err
}

// history is what stands in the job stream before the pool has a consumer.
type history struct {
	// messages on the pool's subjects.
	messages uint64
	// repeats means that the stream keeps what is done, so that a new consumer may take it
	// again; a work queue holds only what nobody has done.
	repeats bool
	// worked means that the pool has done jobs of this stream before, and its consumer is gone.
	worked bool
	start  string
}

// String says what a new consumer takes, empty if nothing.
func (h history) String() string {
	switch {
	case h.messages == 0:
		return ""
	case h.start == StartNew && h.repeats:
		return fmt.Sprintf("the %d messages that the stream holds on the pool's subjects are left alone (ROLLCALL_START=new)", h.messages)
	case h.repeats && h.start == "":
		return fmt.Sprintf("%d messages that the stream holds would be taken as jobs with ROLLCALL_START=all%s, and left alone with ROLLCALL_START=new; without either nothing is made", h.messages, h.again())
	case h.worked && h.repeats:
		return fmt.Sprintf("%d messages that the stream holds would be taken as jobs%s", h.messages, h.again())
	default:
		return fmt.Sprintf("%d messages that the stream holds would be taken as jobs", h.messages)
	}
}

// again says what would be done twice.
func (h history) again() string {
	if !h.worked {
		return ""
	}
	return ", those among them that this pool has done already once more"
}

// refuse returns why no consumer may be made until somebody has said where it begins: what such a
// stream holds may have been put there long ago, and not to be done by this pool.
func (h history) refuse(s *Setup) error {
	if !h.repeats || h.messages == 0 || s.streams.Start != "" {
		return nil
	}
	return fmt.Errorf("%w: stream %s keeps what is done and holds %d messages on %v: set ROLLCALL_START=all to take them as jobs%s, or ROLLCALL_START=new to begin with those to come",
		ErrRefusedSetup, s.streams.Stream, h.messages, s.streams.Subjects, h.again())
}

// history reads what a new consumer of the pool would find.
func (s *Setup) history(ctx context.Context) (history, error) {
	h := history{start: s.streams.Start}
	stream, err := s.conn.js.Stream(ctx, s.streams.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return h, nil
	}
	if err != nil {
		return h, s.conn.Explain("look up stream "+s.streams.Stream, err)
	}
	info := stream.CachedInfo()
	h.repeats = info.Config.Retention != jetstream.WorkQueuePolicy
	if info.State.Msgs == 0 {
		return h, nil
	}
	for _, filter := range s.streams.Subjects {
		held, err := stream.Info(ctx, jetstream.WithSubjectFilter(filter))
		if err != nil {
			return h, s.conn.Explain("count the messages on "+filter, err)
		}
		for _, n := range held.State.Subjects {
			h.messages += n
		}
	}
	h.worked, err = s.hasWorked(ctx, jobs.Epoch(info.Created))
	return h, err
}

// hasWorked reports whether DONE knows of jobs of this stream that the pool has tried: pages of
// its ledger, or its oldest or newest event.
func (s *Setup) hasWorked(ctx context.Context, epoch string) (bool, error) {
	done, err := s.conn.js.Stream(ctx, s.conn.Done())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return false, nil
	}
	if err != nil {
		return false, s.conn.Explain("look up stream "+s.conn.Done(), err)
	}
	uid := []byte(`"uid":"` + epoch + ".")
	for filter, text := range map[string][]byte{"done.ledger." + s.pool + ".page." + s.streams.Stream + "." + epoch + ".>": nil, EventsFilter(s.pool): uid} {
		oldest, err := s.conn.NextMsg(ctx, done, filter, 1)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		newest := oldest
		if err == nil {
			newest, err = s.conn.LastMsg(ctx, done, filter)
		}
		if err != nil {
			return false, s.conn.Explain("look for work of the pool in "+s.conn.Done(), err)
		}
		if bytes.Contains(oldest.Data, text) || bytes.Contains(newest.Data, text) {
			return true, nil
		}
	}
	return false, nil
}
