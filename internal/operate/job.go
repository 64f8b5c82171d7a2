package operate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
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
	// JobInFlight jobs are with a replica, or wait out a back-off.
	JobInFlight Whereabouts = "in_flight"
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
	// Due is when a delayed job is to be published.
	Due string `json:"due,omitempty"`
	// Attempt under way or next for a job that is not final, else the last.
	Attempt int `json:"attempt"`
	// Succeeded names the services that are done with a job that is not final.
	Succeeded []string `json:"succeeded,omitempty"`
	// The event that the job is final in; empty where it is not.
	Outcome   jobs.Outcome `json:"outcome,omitempty"`
	Reason    string       `json:"reason,omitempty"`
	BatchID   string       `json:"batch_id,omitempty"`
	EventSeq  uint64       `json:"event_seq,omitempty"`
	SettledAt time.Time    `json:"settled_at,omitzero"`
	// DeadLetter is the sequence of its dead letter, 0 for none.
	DeadLetter uint64 `json:"dead_letter,omitempty"`
}

// maxLookedAt bounds the jobs that are read one by one to find an id.
const maxLookedAt = 10_000

// Job finds a job of the pool by its uid or by the id its producer gave it. An id that was
// used more than once finds the job that is not final, else the last. The error wraps
// [ErrNotFound]: the job never was, or its event has left the DONE stream.
func (a *Admin) Job(ctx context.Context, id string) (JobReport, error) {
	stream, err := a.conn.Stream(ctx, a.streams.Stream)
	if err != nil {
		return JobReport{}, err
	}
	if report, found, err := a.delayed(ctx, id); found || err != nil {
		return report, err
	}
	find := a.byID
	if ref, err := jobs.ParseUID(id); err == nil && ref.Epoch == jobs.Epoch(stream.CachedInfo().Created) {
		find = func(ctx context.Context, stream jetstream.Stream, _ string) (*jetstream.RawStreamMsg, error) {
			return storedJob(ctx, stream, ref.Seq)
		}
	}
	m, err := find(ctx, stream, id)
	switch {
	case err != nil:
		return JobReport{}, bus.Explain("look for job "+id, err)
	case m != nil:
		return a.open(ctx, stream, m)
	default:
		return a.final(ctx, id)
	}
}

// storedJob reads one job; nil if it is not there.
func storedJob(ctx context.Context, stream jetstream.Stream, seq uint64) (*jetstream.RawStreamMsg, error) {
	m, err := stream.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	return m, err
}

// byID reads jobs until one has the id; nil if none of the first [maxLookedAt] has.
func (a *Admin) byID(ctx context.Context, stream jetstream.Stream, id string) (*jetstream.RawStreamMsg, error) {
	for _, filter := range a.streams.Subjects {
		seq := stream.CachedInfo().State.FirstSeq
		for range maxLookedAt {
			m, err := stream.GetMsg(ctx, max(seq, 1), jetstream.WithGetMsgSubject(filter))
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				break
			}
			if err != nil {
				return nil, err
			}
			if j := decodeStored(m, ""); j.ID == id {
				return m, nil
			}
			seq = m.Sequence + 1
		}
	}
	return nil, nil
}

func decodeStored(m *jetstream.RawStreamMsg, epoch string) jobs.Job {
	return jobs.Decode(jobs.Delivery{
		Subject: m.Subject, Header: m.Header, Data: m.Data, Published: m.Time, Ref: jobs.Ref{Epoch: epoch, Seq: m.Sequence},
	}, 0)
}

// open reports on a job that is in the stream.
func (a *Admin) open(ctx context.Context, stream jetstream.Stream, m *jetstream.RawStreamMsg) (JobReport, error) {
	j := decodeStored(m, jobs.Epoch(stream.CachedInfo().Created))
	report := JobReport{UID: j.UID, ID: j.ID, Subject: j.Subject, Published: m.Time, State: JobWaiting, Attempt: 1}
	consumer, err := a.conn.Consumer(ctx, a.streams.Stream, a.pool)
	if err != nil {
		return report, err
	}
	if m.Sequence > consumer.Delivered.Stream {
		return report, nil
	}
	record, err := a.record(ctx, j.Ref)
	if err != nil {
		return report, err
	}
	if record.Final {
		// Finished, and its ack is still on its way.
		return a.final(ctx, j.UID)
	}
	report.State, report.Attempt, report.Succeeded = JobInFlight, record.Attempts+1, record.OK
	return report, nil
}

// record reads what the ledger knows of a job.
func (a *Admin) record(ctx context.Context, ref jobs.Ref) (jobs.Record, error) {
	_, offset := ref.Page()
	subject := a.ledger().Page(ref)
	entries, err := bus.NewDoneStore(a.conn).Read(ctx, []string{subject})
	if err != nil || len(entries) == 0 {
		return jobs.Record{}, err
	}
	page, err := jobs.DecodePage(entries[0].Data)
	if err != nil {
		return jobs.Record{}, fmt.Errorf("%s: %w", subject, err)
	}
	return page.Record(offset), nil
}

// errEnough ends a search.
var errEnough = errors.New("found")

// written returns what of an id must stand in its event as it is: all of it, or nothing where
// JSON escapes some of it.
func written(id string) []byte {
	if strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' }) {
		return nil
	}
	return []byte(id)
}

// final looks for the event that a job is final in. There is no index: the events are read
// from the oldest on. For a uid the first hit is the only one.
func (a *Admin) final(ctx context.Context, id string) (JobReport, error) {
	_, notUID := jobs.ParseUID(id)
	needle := written(id)
	var report JobReport
	err := NewEvents(a.conn).Stored(ctx, a.pool, 0, false, func(e Event) error {
		if !bytes.Contains(e.Data, needle) {
			return nil
		}
		event, err := jobs.DecodeEvent(e.Data)
		if err != nil {
			return nil //nolint:nilerr // not an event of ours; others may follow
		}
		for i := range event.Data.Jobs {
			j := &event.Data.Jobs[i]
			if j.UID != id && j.ID != id || !j.Final() {
				continue
			}
			report = JobReport{
				UID: j.UID, ID: j.ID, Subject: j.Subject, State: JobFinal, Attempt: j.Attempt, Outcome: j.Outcome,
				Reason: j.Reason, BatchID: event.Data.BatchID, EventSeq: e.Seq, SettledAt: event.Data.SettledAt,
			}
			if notUID == nil && j.UID == id {
				return errEnough
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return JobReport{}, err
	}
	if report.UID == "" {
		return JobReport{}, fmt.Errorf("job %s of pool %s: %w: it never was, or its event has left stream %s", id, a.pool, ErrNotFound, bus.StreamDone)
	}
	if report.Outcome == jobs.Succeeded {
		return report, nil
	}
	err = a.Letters(ctx, LetterFilter{Outcome: report.Outcome.String()}, func(l bus.Letter) error {
		if l.UID == report.UID {
			report.DeadLetter = l.Seq
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return report, err
	}
	return report, nil
}
