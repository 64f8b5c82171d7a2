package operate

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// Whereabouts is where a job is in its life.
type Whereabouts string

// The places a job can be in.
const (
	// JobDelayed jobs wait in LATER until they are due.
	JobDelayed Whereabouts = "delayed"
	// JobWaiting jobs were never handed out.
	JobWaiting Whereabouts = "waiting"
	// JobInFlight jobs are with a replica.
	JobInFlight Whereabouts = "in_flight"
	// JobRetrying jobs were called and wait for their next attempt.
	JobRetrying Whereabouts = "waiting_for_retry"
	// JobFinal jobs ended in an event.
	JobFinal Whereabouts = "final"
)

// JobReport is everything that is known of one job.
type JobReport struct {
	UID       string      `json:"uid"`
	ID        string      `json:"id,omitempty"`
	Subject   string      `json:"subject,omitempty"`
	State     Whereabouts `json:"state"`
	Published time.Time   `json:"published,omitzero"`
	// ReplayOf is the uid of the job from whose dead letter this one was made.
	ReplayOf string `json:"replay_of,omitempty"`
	// Due is when a delayed job is to be published.
	Due string `json:"due,omitempty"`
	// Attempt under way or next for a job that is not final, else the last.
	Attempt int `json:"attempt"`
	// NextAttempt is when a job that waits for a retry becomes due; zero if that is not known.
	NextAttempt time.Time `json:"next_attempt,omitzero"`
	// Succeeded names the services that are done with a job that is not final.
	Succeeded []string `json:"succeeded,omitempty"`
	// The event that the job is final in; empty where it is not.
	Outcome jobs.Outcome `json:"outcome,omitempty"`
	// Reason of the outcome, or of the last attempt that is to be repeated.
	Reason    string    `json:"reason,omitempty"`
	BatchID   string    `json:"batch_id,omitempty"`
	EventSeq  uint64    `json:"event_seq,omitempty"`
	SettledAt time.Time `json:"settled_at,omitzero"`
	// DeadLetter is the sequence of its dead letter, 0 for none.
	DeadLetter uint64 `json:"dead_letter,omitempty"`
	// History is what happened to the job, the oldest first, as far as it is still stored.
	History []JobStep `json:"history"`
}

// Job finds a job of the pool by its uid or by the id its producer gave it. An id that was
// used more than once finds the job that is not final, else the last. The error wraps
// [ErrNotFound]: the job never was, or its event has left the DONE stream.
func (a *Admin) Job(ctx context.Context, id string) (JobReport, error) {
	pool, err := a.asItStands(ctx)
	if err != nil && !errors.Is(err, bus.ErrMissing) {
		return JobReport{}, err
	}
	report, failure := pool.job(ctx, id)
	if errors.Is(failure, ErrNotFound) && err != nil {
		return report, errors.Join(failure, err) // it may be that there is no such pool
	}
	return report, failure
}

// job is [Admin.Job] for a pool that is as it stands on the server.
func (a *Admin) job(ctx context.Context, id string) (JobReport, error) {
	stream, err := a.conn.Stream(ctx, a.streams.Stream)
	if err != nil {
		return JobReport{}, err
	}
	if _, ours := refOf(stream, id); !ours { // else a delayed job may have it for a name
		if report, found, err := a.delayed(ctx, id); found || err != nil {
			return report, err
		}
	}
	m, err := a.stored(ctx, stream, id)
	switch {
	case err != nil:
		return JobReport{}, a.conn.Explain("look for job "+id, err)
	case m != nil:
		return a.open(ctx, stream, m)
	default:
		return a.final(ctx, id)
	}
}

// refOf reads the uid of a job of this very stream.
func refOf(stream jetstream.Stream, id string) (ref jobs.Ref, ours bool) {
	ref, err := jobs.ParseUID(id)
	return ref, err == nil && ref.Epoch == jobs.Epoch(stream.CachedInfo().Created)
}

// stored finds a job of the pool in the job stream by its uid or id; nil if it is not there.
func (a *Admin) stored(ctx context.Context, stream jetstream.Stream, id string) (*jetstream.RawStreamMsg, error) {
	if ref, ours := refOf(stream, id); ours {
		m, err := a.storedJob(ctx, stream, ref.Seq)
		if err != nil || m == nil || !a.takes(m.Subject) {
			return nil, err
		}
		return m, nil
	}
	for _, filter := range a.streams.Subjects {
		if found, err := a.named(ctx, stream, filter, id, anyMessage); err != nil || found != nil {
			return found, err
		}
	}
	return nil, nil
}

// takes reports whether jobs of a subject are the pool's.
func (a *Admin) takes(subject string) bool {
	return slices.ContainsFunc(a.streams.Subjects, func(filter string) bool { return jobs.SubjectCovers(filter, subject) })
}

func anyMessage(*jetstream.RawStreamMsg) bool { return true }

// named finds the first job of an id among the messages of a stream on filter that are counted in, as the leader of
// the stream has them; nil if there is none.
func (a *Admin) named(ctx context.Context, stream jetstream.Stream, filter, id string, counts func(*jetstream.RawStreamMsg) bool) (found *jetstream.RawStreamMsg, err error) {
	wanted := func(m *jetstream.RawStreamMsg) bool { return decodeStored(m, "").ID == id }
	err = a.scan(ctx, stream, filter, maxLookedAt, wanted, func(m *jetstream.RawStreamMsg) bool {
		if counts(m) {
			found = m
		}
		return found == nil
	})
	return found, err
}

// storedJob reads one job; nil if it is not there.
func (a *Admin) storedJob(ctx context.Context, stream jetstream.Stream, seq uint64) (*jetstream.RawStreamMsg, error) {
	m, err := a.conn.Msg(ctx, stream, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	return m, err
}

// maxLookedAt bounds the messages that are read one by one to find a job, where a stream allows
// nothing else.
const maxLookedAt = 10_000

// scan calls each for the messages of a stream on filter that are wanted, until it returns false: found
// many in one request where the stream allows direct gets, else one by one, the first most of them.
// What stands in the headers of such a batch is up to the producers, so each gets the message as the
// leader of the stream has it, and nothing that is not wanted then.
func (a *Admin) scan(ctx context.Context, stream jetstream.Stream, filter string, most int, wanted, each func(*jetstream.RawStreamMsg) bool) error {
	info := stream.CachedInfo()
	if !info.Config.AllowDirect {
		return a.scanSlowly(ctx, stream, filter, most, wanted, each)
	}
	a.conn.Tolerate(a.conn.API("DIRECT.GET."))
	for seq := max(info.State.FirstSeq, 1); seq <= info.State.LastSeq; {
		messages, next, err := a.conn.ReadFrom(ctx, info.Config.Name, filter, seq)
		forged := errors.Is(err, bus.ErrForged)
		switch {
		case err != nil && ctx.Err() != nil:
			return err
		case err != nil && !forged && seq == info.State.FirstSeq: // the right to direct gets may be missing
			return a.scanSlowly(ctx, stream, filter, most, wanted, each)
		case err != nil, next == 0: // one by one what is forged, else once: it is the end, unless the server that answered lags
			for known := max(next, seq+1); seq < known; {
				if seq, err = a.step(ctx, stream, filter, seq, wanted, each); seq == 0 || err != nil {
					return err
				}
			}
			continue
		}
		for _, m := range messages {
			if m.Sequence > info.State.LastSeq || !wanted(m) {
				continue
			}
			stored, err := a.storedJob(ctx, stream, m.Sequence)
			if err != nil {
				return err
			}
			if stored != nil && jobs.SubjectCovers(filter, stored.Subject) && wanted(stored) && !each(stored) {
				return nil
			}
		}
		seq = next
	}
	return nil
}

func (a *Admin) scanSlowly(ctx context.Context, stream jetstream.Stream, filter string, most int, wanted, each func(*jetstream.RawStreamMsg) bool) error {
	seq := max(stream.CachedInfo().State.FirstSeq, 1)
	for range most {
		var err error
		if seq, err = a.step(ctx, stream, filter, seq, wanted, each); seq == 0 || err != nil {
			return err
		}
	}
	return nil
}

// step is [Admin.scan] for the first message from a sequence on. It returns where to go on, 0 at the end.
func (a *Admin) step(ctx context.Context, stream jetstream.Stream, filter string, seq uint64, wanted, each func(*jetstream.RawStreamMsg) bool) (next uint64, err error) {
	m, err := a.conn.NextMsg(ctx, stream, filter, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil || wanted(m) && !each(m) {
		return 0, err
	}
	return m.Sequence + 1, nil
}

func decodeStored(m *jetstream.RawStreamMsg, epoch string) jobs.Job {
	return jobs.Decode(jobs.Delivery{
		Subject: m.Subject, Header: m.Header, Data: m.Data, Published: m.Time, Ref: jobs.Ref{Epoch: epoch, Seq: m.Sequence},
	}, 0)
}

// open reports on a job that is in the stream.
func (a *Admin) open(ctx context.Context, stream jetstream.Stream, m *jetstream.RawStreamMsg) (JobReport, error) {
	j := decodeStored(m, jobs.Epoch(stream.CachedInfo().Created))
	report := JobReport{UID: j.UID, ID: j.ID, Subject: j.Subject, Published: m.Time, ReplayOf: j.ReplayOf, State: JobWaiting, Attempt: 1}
	report.History = []JobStep{{At: m.Time, What: StepPublished}}
	consumer, err := a.conn.Consumer(ctx, a.streams.Stream, a.pool)
	if err != nil {
		return report, err
	}
	record, _, err := a.lookUp(ctx, j.Ref)
	if err != nil {
		return report, err
	}
	if record.Final {
		// Finished, and its ack is still on its way; or cancelled in a stream that keeps what is done.
		return a.final(ctx, j.UID)
	}
	if m.Sequence > consumer.Delivered.Stream {
		return report, nil
	}
	report.State, report.Attempt, report.Succeeded = JobInFlight, record.Attempts+1, record.OK
	steps, err := a.attempts(ctx, &report)
	if err != nil {
		return report, err
	}
	report.History = append(report.History, steps...)
	if last := len(steps) - 1; last >= 0 {
		report.Reason = steps[last].Reason
		report.Attempt = max(report.Attempt, steps[last].Attempt+1) // it may have been committed since the page was read
		if at := steps[last].RetryAt; at.After(consumer.TimeStamp) {
			report.State, report.NextAttempt = JobRetrying, at
		}
	}
	return report, nil
}
