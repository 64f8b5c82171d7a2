package operate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// ErrNotReplayable is returned for a dead letter that cannot become the job it was.
var ErrNotReplayable = errors.New("cannot be replayed")

// LetterFilter chooses dead letters; a zero field chooses all.
type LetterFilter struct {
	// Outcome, Service and Set are compared as they are, Reason is looked for as a part, without
	// regard to case.
	Outcome string
	Service string
	Set     string
	Reason  string
	// Subject is the job's, with the wildcards of NATS.
	Subject string
	// Before and After bound when the job failed.
	Before time.Time
	After  time.Time
}

// Empty reports whether the filter chooses all.
func (f *LetterFilter) Empty() bool { return *f == LetterFilter{} }

// stored is what the subjects of the letters that the filter chooses have in common behind the
// pool. Longer subjects than a job may have are cut in a letter's.
func (f *LetterFilter) stored() string {
	if f.Subject == "" || jobs.CheckFilter(f.Subject) != nil {
		return ">"
	}
	return f.Subject
}

func (f *LetterFilter) matches(l *bus.Letter) bool {
	return (f.Outcome == "" || f.Outcome == l.Outcome) &&
		(f.Service == "" || f.Service == l.Service) &&
		(f.Set == "" || f.Set == l.Set) &&
		(f.Reason == "" || strings.Contains(strings.ToLower(l.Reason), strings.ToLower(f.Reason))) &&
		(f.Subject == "" || jobs.SubjectCovers(f.Subject, l.Subject)) &&
		(f.Before.IsZero() || l.FailedAt.Before(f.Before)) &&
		(f.After.IsZero() || l.FailedAt.After(f.After))
}

// Letters calls each for the pool's dead letters that filter chooses, the oldest first, as they
// are stored at the call, compared with what was committed. Bodies are not read. An error of each
// ends it and is returned as it is.
func (a *Admin) Letters(ctx context.Context, filter LetterFilter, each func(bus.Letter) error) error {
	block := make([]bus.Letter, 0, verifyBlock)
	flush := func() error {
		if err := a.verify(ctx, block); err != nil {
			return err
		}
		for _, l := range block {
			if err := each(l); err != nil {
				return err
			}
		}
		block = block[:0]
		return nil
	}
	err := a.letters(ctx, filter, func(l bus.Letter) error {
		if block = append(block, l); len(block) < verifyBlock {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// letters is Letters without the comparison.
func (a *Admin) letters(ctx context.Context, filter LetterFilter, each func(bus.Letter) error) error {
	stream, err := a.conn.Stream(ctx, bus.StreamDead)
	if err != nil {
		return err
	}
	config := jetstream.OrderedConsumerConfig{FilterSubjects: []string{bus.DeadSubject(a.pool, filter.stored())}, HeadersOnly: true}
	for m, err := range readStored(ctx, a.conn, stream, config, "read dead letters", false) {
		if err != nil {
			return err
		}
		letter := bus.ReadLetter(a.pool, m.Subject(), m.Sequence.Stream, m.Timestamp, m.Headers())
		if filter.matches(&letter) {
			if err := each(letter); err != nil {
				return err
			}
		}
	}
	return nil
}

// Letter reads one dead letter of the pool with its headers and body. The error wraps
// [ErrNotFound].
func (a *Admin) Letter(ctx context.Context, seq uint64) (bus.Letter, *nats.Msg, error) {
	stream, err := a.conn.Stream(ctx, bus.StreamDead)
	if err != nil {
		return bus.Letter{}, nil, err
	}
	raw, err := a.conn.Msg(ctx, stream, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && !strings.HasPrefix(raw.Subject, bus.DeadSubject(a.pool, "")) {
		return bus.Letter{}, nil, fmt.Errorf("dead letter %d of pool %s: %w", seq, a.pool, ErrNotFound)
	}
	if err != nil {
		return bus.Letter{}, nil, a.conn.Explain("read dead letter "+strconv.FormatUint(seq, 10), err)
	}
	l := bus.ReadLetter(a.pool, raw.Subject, raw.Sequence, raw.Time, raw.Header)
	l.Bytes = len(raw.Data)
	one := []bus.Letter{l}
	if err := a.verify(ctx, one); err != nil {
		return bus.Letter{}, nil, err
	}
	return one[0], &nats.Msg{Subject: raw.Subject, Header: raw.Header, Data: raw.Data}, nil
}

// Replay publishes the job of a dead letter again, body and headers as they were, under a new
// message id, and removes the letter once the broker holds the job. It returns the new job. If
// only the removal fails, a second try within the stream's duplicate window makes no second
// job. A letter whose job ended elsewhere, or goes on, is replayed only evenIfElsewhere. The
// error wraps [ErrNotFound] or [ErrNotReplayable].
func (a *Admin) Replay(ctx context.Context, seq uint64, evenIfElsewhere bool) (jobs.Ref, error) {
	letter, m, err := a.Letter(ctx, seq)
	if err != nil {
		return jobs.Ref{}, err
	}
	if err := a.replayable(ctx, &letter, m, evenIfElsewhere); err != nil {
		return jobs.Ref{}, fmt.Errorf("dead letter %d %w: %w", seq, ErrNotReplayable, err)
	}
	stream, err := a.conn.Stream(ctx, a.streams.Stream)
	if err != nil {
		return jobs.Ref{}, err
	}
	job := bus.ReplayedJob(&letter, m)
	ack, err := a.conn.JetStream().PublishMsg(ctx, job, jetstream.WithExpectStream(a.streams.Stream))
	if err != nil {
		return jobs.Ref{}, fmt.Errorf("replay dead letter %d: publish to %s: %w", seq, job.Subject, err)
	}
	ref := jobs.Ref{Epoch: jobs.Epoch(stream.CachedInfo().Created), Seq: ack.Sequence}
	if ack.Duplicate {
		if err := a.checkReplay(ctx, stream, ref, job); err != nil {
			return jobs.Ref{}, fmt.Errorf("replay dead letter %d: %w", seq, err)
		}
	}
	if err := a.Discard(ctx, seq); err != nil && !errors.Is(err, ErrNotFound) {
		return ref, fmt.Errorf("dead letter %d is replayed as %s but still there: %w", seq, ref.UID(), err)
	}
	return ref, nil
}

// checkReplay returns an error if another message has the id of a replay. One that is gone was the replay: nobody else
// knows the id.
func (a *Admin) checkReplay(ctx context.Context, stream jetstream.Stream, ref jobs.Ref, job *nats.Msg) error {
	stored, err := a.storedJob(ctx, stream, ref.Seq)
	if err != nil {
		return a.conn.Explain("look at job "+ref.UID(), err)
	}
	if stored == nil {
		return nil
	}
	guard := jetstream.ExpectedStreamHeader // [jetstream.JetStream.PublishMsg] adds it
	delete(stored.Header, guard)
	delete(job.Header, guard)
	if stored.Subject != job.Subject || !bytes.Equal(stored.Data, job.Data) || !maps.EqualFunc(stored.Header, job.Header, slices.Equal) {
		return fmt.Errorf("job %s has the message id of the replay and is another; replay it again in two minutes", ref.UID())
	}
	return nil
}

// Replayable returns why a dead letter could not be replayed, nil if it could. The error wraps
// [ErrNotFound] or [ErrNotReplayable].
func (a *Admin) Replayable(ctx context.Context, seq uint64, evenIfElsewhere bool) error {
	letter, m, err := a.Letter(ctx, seq)
	if err != nil {
		return err
	}
	if err := a.replayable(ctx, &letter, m, evenIfElsewhere); err != nil {
		return fmt.Errorf("dead letter %d %w: %w", seq, ErrNotReplayable, err)
	}
	return nil
}

func (a *Admin) replayable(ctx context.Context, l *bus.Letter, m *nats.Msg, evenIfElsewhere bool) error {
	switch {
	case l.Truncated:
		return errors.New("its body or headers were cut when it was stored")
	case evenIfElsewhere || l.Elsewhere == "":
	case l.Elsewhere == jobs.Retrying:
		return fmt.Errorf("its job has not ended: a worker that had lost it wrote the letter; %s replays it all the same", evenFlag)
	default:
		return fmt.Errorf("its job %s in batch %s; %s replays it all the same", l.Elsewhere, l.ElsewhereBatch, evenFlag)
	}
	now := time.Time{}
	for name, values := range m.Header {
		if !strings.EqualFold(name, jobs.HeaderDeadline) || len(values) == 0 {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, values[0])
		if err != nil {
			continue
		}
		if now.IsZero() {
			if now, err = a.Now(ctx); err != nil {
				return err
			}
		}
		if at.Before(now) {
			return fmt.Errorf("its %s, %s, has passed: it would expire at once", jobs.HeaderDeadline, values[0])
		}
	}
	return nil
}

// evenFlag is the flag of the command that replays letters of jobs that ended elsewhere.
const evenFlag = "--even-if-succeeded"

// Discard removes a dead letter and has the server overwrite it. The error wraps [ErrNotFound].
func (a *Admin) Discard(ctx context.Context, seq uint64) error {
	stream, err := a.conn.Stream(ctx, bus.StreamDead)
	if err != nil {
		return err
	}
	switch err := stream.SecureDeleteMsg(ctx, seq); {
	case isGone(err):
		return fmt.Errorf("dead letter %d: %w", seq, ErrNotFound)
	case err != nil:
		return a.conn.Explain("discard dead letter "+strconv.FormatUint(seq, 10), err)
	default:
		return nil
	}
}
