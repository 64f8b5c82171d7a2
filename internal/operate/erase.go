package operate

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// headerEventSubject says in a record of an erasure under way which event it is the rest of.
const headerEventSubject = "Rollcall-Event-Subject"

// Erasure is what was erased of a job.
type Erasure struct {
	// Jobs were open, and are cancelled and gone; Letters and Archived are messages that are gone.
	Jobs    int `json:"jobs"`
	Letters int `json:"dead_letters"`
	// Events hold no more of the job than its uid, attempt and outcome.
	Events   int `json:"events"`
	Archived int `json:"archived"`
	// Sets are events and tallies of sets that hold no more of the job than its uid and outcome.
	Sets int `json:"sets"`
}

// erasing is what is known of the jobs that are being erased.
type erasing struct {
	// id is a uid, or what a producer called them.
	id string
	// uids are theirs, replays those of jobs that were made of their dead letters.
	uids, replays map[string]bool
}

// takes reports whether a job is one of those, and notes it, or that it was made of one of them:
// replayOf is the uid that it was made of, empty for none.
func (e *erasing) takes(uid, id, replayOf string) bool {
	if e.uids[uid] || id == e.id {
		e.uids[uid] = true
		return true
	}
	if e.uids[replayOf] {
		e.replays[uid] = true
	}
	return false
}

// Erase removes what is stored of the jobs that have this uid or id, and of those that were made of
// their dead letters, and overwrites it on the broker's disks: those that are open, cancelled in the
// name of who; their dead letters; their entries in events of batches and sets, whose other entries
// stay as they are. The error wraps [ErrNotFound] if nothing is stored of any. After a crash, running
// it again finishes it.
func (a *Admin) Erase(ctx context.Context, who, id string) (done Erasure, err error) {
	if err := a.checkDone(ctx); err != nil {
		return done, err
	}
	a, err = a.asItStands(ctx)
	if err != nil && !errors.Is(err, bus.ErrMissing) {
		return done, err
	}
	if err := a.finishErasures(ctx); err != nil {
		return done, a.conn.Explain("look for erasures that were cut short", err)
	}
	seen := map[string]bool{id: true}
	for open := []string{id}; len(open) > 0; open = open[1:] {
		replays, err := a.eraseJobs(ctx, who, open[0], &done)
		if err != nil {
			return done, err
		}
		for uid := range replays {
			if !seen[uid] {
				seen[uid], open = true, append(open, uid)
			}
		}
	}
	if done == (Erasure{}) {
		return done, fmt.Errorf("job %s of pool %s: %w: nothing is stored of it", id, a.pool, ErrNotFound)
	}
	return done, nil
}

// eraseJobs erases the jobs of one uid or id, and returns the uids of those that were made of them.
func (a *Admin) eraseJobs(ctx context.Context, who, id string, done *Erasure) (replays map[string]bool, err error) {
	e := &erasing{id: id, uids: map[string]bool{id: true}, replays: map[string]bool{}}
	if _, err := a.lettersOf(ctx, e); err != nil { // an event may be gone that had the id
		return nil, err
	}
	if err := a.eraseOpen(ctx, who, e, done); err != nil {
		return nil, err
	}
	if err := a.eraseMembers(ctx, e, done); err != nil {
		return nil, err
	}
	found, err := a.storedEvents(ctx, a.conn.Done(), bus.EventsFilter(a.pool), e.speaksOf)
	if err != nil {
		return nil, err
	}
	for _, m := range found {
		if err := a.rewrite(ctx, m, redacted, e.uids); err != nil {
			return nil, err
		}
		done.Events++
	}
	if err := a.eraseArchived(ctx, e, done); err != nil {
		return nil, err
	}
	letters, err := a.lettersOf(ctx, e)
	if err != nil {
		return nil, err
	}
	for _, seq := range letters {
		if err := a.Discard(ctx, seq); err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		done.Letters++
	}
	return e.replays, a.openReplays(ctx, e)
}

// openReplays notes the jobs in the stream that were made of dead letters of the jobs.
func (a *Admin) openReplays(ctx context.Context, e *erasing) error {
	stream, err := a.conn.Stream(ctx, a.streams.Stream)
	if err != nil {
		return err
	}
	epoch := jobs.Epoch(stream.CachedInfo().Created)
	for _, filter := range a.streams.Subjects {
		replay := func(m *jetstream.RawStreamMsg) bool { return e.uids[m.Header.Get(jobs.HeaderReplayOf)] }
		err := a.scan(ctx, stream, filter, maxLookedAt, replay, func(m *jetstream.RawStreamMsg) bool {
			e.replays[jobs.Ref{Epoch: epoch, Seq: m.Sequence}.UID()] = true
			return true
		})
		if err != nil {
			return a.conn.Explain("look for replays of job "+e.id, err)
		}
	}
	return nil
}

// lettersOf returns the dead letters of the jobs, and notes the uids of these.
func (a *Admin) lettersOf(ctx context.Context, e *erasing) (letters []uint64, err error) {
	err = a.letters(ctx, LetterFilter{}, func(l bus.Letter) error {
		if e.takes(l.UID, l.ID, l.ReplayOf) {
			letters = append(letters, l.Seq)
		}
		return nil
	})
	return letters, err
}

// eraseOpen cancels the jobs that are open, and notes their uids.
func (a *Admin) eraseOpen(ctx context.Context, who string, e *erasing, done *Erasure) error {
	for {
		report, err := a.cancelJob(ctx, who, e.id, true)
		switch {
		case errors.Is(err, ErrNotFound), errors.Is(err, ErrFinal):
			return a.eraseEnded(ctx, e, done)
		case err != nil:
			return err
		}
		e.uids[report.UID] = true
		done.Jobs++
	}
}

// eraseEnded removes the messages of jobs that have ended and that nobody has acked yet: an earlier
// erasure may have been cut short.
func (a *Admin) eraseEnded(ctx context.Context, e *erasing, done *Erasure) error {
	stream, err := a.conn.Stream(ctx, a.streams.Stream)
	if err != nil || stream.CachedInfo().Config.Retention != jetstream.WorkQueuePolicy {
		return err
	}
	for {
		m, err := a.stored(ctx, stream, e.id)
		if err != nil {
			return a.conn.Explain("look for job "+e.id, err)
		}
		if m == nil {
			return nil
		}
		j := decodeStored(m, jobs.Epoch(stream.CachedInfo().Created))
		record, _, err := a.lookUp(ctx, j.Ref)
		if err != nil || !record.Final {
			return err
		}
		if err := a.hasLeftLater(ctx, &j); err != nil {
			return err
		}
		if err := a.wipeFrom(ctx, stream, m.Sequence); err != nil {
			return err
		}
		e.uids[j.UID] = true
		done.Jobs++
	}
}

// storedEvents returns the messages of a stream on filter that are chosen by their data.
func (a *Admin) storedEvents(ctx context.Context, name, filter string, chosen func(data []byte) bool) (found []*jetstream.RawStreamMsg, err error) {
	stream, err := a.conn.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	wanted := func(m *jetstream.RawStreamMsg) bool { return chosen(m.Data) }
	err = a.scan(ctx, stream, filter, int(stream.CachedInfo().State.Msgs), wanted, func(m *jetstream.RawStreamMsg) bool {
		found = append(found, m)
		return true
	})
	if err != nil {
		return nil, a.conn.Explain("read the events in "+name, err)
	}
	return found, nil
}

// speaksOf reports whether an event has an entry of the jobs that is not erased yet, and notes their
// uids.
func (e *erasing) speaksOf(data []byte) (found bool) {
	event, err := jobs.DecodeEvent(data)
	if err != nil {
		return false // not an event of ours
	}
	for i := range event.Data.Jobs {
		if j := &event.Data.Jobs[i]; !j.Erased && e.takes(j.UID, j.ID, j.ReplayOf) {
			found = true
		}
	}
	return found
}

// rewrite puts the redacted event in the place of a stored one, with the lifetime that this had
// left. A message that is only replaced stays readable on the disk, so the old one is overwritten
// first; what is to come then is written down before.
func (a *Admin) rewrite(ctx context.Context, m *jetstream.RawStreamMsg, redact redaction, uids map[string]bool) error {
	data, err := redact(m.Data, uids)
	if err != nil {
		return err
	}
	if err := a.mayPublish(ctx, m.Subject); err != nil {
		return err
	}
	record := &nats.Msg{Subject: a.erasures(m.Subject), Header: nats.Header{headerEventSubject: {m.Subject}}, Data: data}
	for _, name := range []string{"Content-Type", "traceparent"} {
		if value := m.Header.Get(name); value != "" {
			record.Header.Set(name, value)
		}
	}
	if ttl, err := strconv.Atoi(m.Header.Get(jetstream.MsgTTLHeader)); err == nil {
		clock, err := a.Clock(ctx)
		if err != nil {
			return err
		}
		left := time.Duration(ttl)*time.Second - clock.Now().Sub(m.Time)
		record.Header.Set(jetstream.MsgTTLHeader, strconv.Itoa(max(int(left/time.Second), 1)))
	}
	ack, err := a.conn.JetStream().PublishMsg(ctx, record)
	if err != nil {
		return a.conn.Explain("write down what remains of event "+m.Subject, err)
	}
	if err := a.wipe(ctx, a.conn.Done(), m.Sequence); err != nil {
		return err
	}
	return a.restore(ctx, record, ack.Sequence)
}

// mayPublish returns why an event could not be published again, before the old one is removed. The
// server refuses what it is sent, since it is meant for a stream that is not there.
func (a *Admin) mayPublish(ctx context.Context, subject string) error {
	_, err := a.conn.JetStream().Publish(ctx, subject, nil, jetstream.WithExpectStream(nobodysStream))
	if errors.As(err, new(*jetstream.APIError)) {
		return nil
	}
	return a.conn.Explain("publish event "+subject+" anew", err)
}

// erasures is where it is written down what an event is to become: done.ledger.<pool>.erase.batch.<batch>,
// for the event of a set done.ledger.<pool>.erase.set.<set>. The server republishes what has five
// tokens. event is its subject, or * for all.
func (a *Admin) erasures(event string) string {
	kind, last := "batch", event[strings.LastIndexByte(event, '.')+1:]
	switch {
	case event == "*":
		kind = "*"
	case strings.HasPrefix(event, bus.SetEventPrefix):
		kind = "set"
	}
	return "done.ledger." + a.pool + ".erase." + kind + "." + last
}

// restore publishes the event that a record holds, unless it is there, and removes the record.
func (a *Admin) restore(ctx context.Context, record *nats.Msg, seq uint64) error {
	m := &nats.Msg{Subject: record.Header.Get(headerEventSubject), Header: nats.Header{}, Data: record.Data}
	for _, name := range []string{"Content-Type", "traceparent", jetstream.MsgTTLHeader} {
		if value := record.Header.Get(name); value != "" {
			m.Header.Set(name, value)
		}
	}
	_, err := a.conn.JetStream().PublishMsg(ctx, m, jetstream.WithExpectLastSequencePerSubject(0))
	if refused := new(jetstream.APIError); err != nil && !errors.As(err, &refused) {
		return a.conn.Explain("publish what remains of event "+m.Subject, err)
	}
	return a.wipe(ctx, a.conn.Done(), seq)
}

// finishErasures does what a command left that was cut short.
func (a *Admin) finishErasures(ctx context.Context) error {
	for {
		records, _, err := a.conn.ReadFrom(ctx, a.conn.Done(), a.erasures("*"), 1)
		if err != nil || len(records) == 0 {
			return err
		}
		for _, r := range records {
			subject := r.Header.Get(headerEventSubject)
			if left, _, err := a.conn.ReadFrom(ctx, a.conn.Done(), subject, 1); err != nil {
				return err
			} else if len(left) > 0 && left[0].Sequence < r.Sequence { // the old event
				if err := a.wipe(ctx, a.conn.Done(), left[0].Sequence); err != nil {
					return err
				}
			}
			if err := a.restore(ctx, &nats.Msg{Header: r.Header, Data: r.Data}, r.Sequence); err != nil {
				return err
			}
		}
	}
}

// wipe removes a message and has the server overwrite it. It is no error if there is none.
func (a *Admin) wipe(ctx context.Context, name string, seq uint64) error {
	stream, err := a.conn.Stream(ctx, name)
	if err != nil {
		return err
	}
	return a.wipeFrom(ctx, stream, seq)
}

func (a *Admin) wipeFrom(ctx context.Context, stream jetstream.Stream, seq uint64) error {
	err := stream.SecureDeleteMsg(ctx, seq)
	if err != nil && !isGone(err) {
		return a.conn.Explain("erase message "+strconv.FormatUint(seq, 10)+" of "+stream.CachedInfo().Config.Name, err)
	}
	return nil
}
