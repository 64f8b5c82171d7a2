package operate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

const (
	// postpone is how much later a delayed job is due while it is being cancelled.
	postpone = 10 * time.Minute
	// beyondLater is a sequence that LATER never reaches.
	beyondLater = 1 << 62
)

// cancelDelayed ends a job that waits in LATER, by its uid there.
func (c *canceller) cancelDelayed(ctx context.Context, uid string) error {
	later, err := c.later(ctx)
	if err != nil {
		return err
	}
	m, err := c.delayedMessage(ctx, later, uid)
	if err != nil {
		return c.conn.Explain("read job "+uid, err)
	}
	if m == nil {
		return fmt.Errorf("job %s: %w", uid, ErrBusy)
	}
	return c.endDelayed(ctx, later, m)
}

// endDelayed keeps a delayed job from becoming due, by the same job with a later time, which
// expects to replace just this one; then it commits the event, and removes the job. Where it is
// interrupted the job is still there under its first number, and can be cancelled again.
func (c *canceller) endDelayed(ctx context.Context, later jetstream.Stream, m *jetstream.RawStreamMsg) error {
	if isDue(m) {
		return fmt.Errorf("job %s: %w", m.Subject, ErrDue)
	}
	first, err := c.firstSequence(ctx, later, m)
	if err != nil {
		return err
	}
	if c.erase {
		return c.endRemoved(ctx, later, m, first)
	}
	held := bus.HeldJob(m, first, c.clock.Now().Add(postpone))
	ack, err := c.conn.JetStream().PublishMsg(ctx, held, jetstream.WithExpectLastSequencePerSubject(m.Sequence))
	switch {
	case lostSubject(err):
		return fmt.Errorf("job %s: %w", m.Subject, ErrBusy)
	case errors.As(err, new(*jetstream.APIError)), errors.Is(err, nats.ErrMaxPayload): // there is no room for what is added to it
		return c.endRemoved(ctx, later, m, first)
	case err != nil:
		return c.conn.Explain("hold the delayed job "+m.Subject, err)
	}
	uid, err := c.commitDelayed(ctx, later, m, first, ack.Sequence)
	if err != nil {
		return err
	}
	if err := later.DeleteMsg(ctx, ack.Sequence); err != nil && !isGone(err) {
		return c.conn.Explain("remove the cancelled job "+uid, err)
	}
	return nil
}

// endRemoved removes a delayed job first and commits its event then. Where it is interrupted in between, there is none.
func (c *canceller) endRemoved(ctx context.Context, later jetstream.Stream, m *jetstream.RawStreamMsg, first uint64) error {
	remove := later.DeleteMsg
	if c.erase {
		remove = later.SecureDeleteMsg
	}
	switch err := remove(ctx, m.Sequence); {
	case isGone(err):
		return fmt.Errorf("job %s: %w", m.Subject, ErrBusy)
	case err != nil:
		return c.conn.Explain("remove the delayed job "+m.Subject, err)
	}
	_, err := c.commitDelayed(ctx, later, m, first, m.Sequence+beyondLater)
	return err
}

// firstSequence returns the sequence that a job had in LATER before an interrupted cancellation held it. A producer may
// write what a held job says, so it is believed only where no other job has that sequence.
func (c *canceller) firstSequence(ctx context.Context, later jetstream.Stream, m *jetstream.RawStreamMsg) (uint64, error) {
	first, held := bus.FirstSequence(m)
	if !held {
		return m.Sequence, nil
	}
	other, err := c.storedJob(ctx, later, first)
	if err != nil {
		return 0, c.conn.Explain("look at the delayed job "+m.Subject, err)
	}
	if other != nil {
		return m.Sequence, nil
	}
	return first, nil
}

// commitDelayed ends a job of LATER in an event of its own, if that was not done before: it competes for the first
// sequence that the job had. Where another job, which said that it had been held, has taken that, the job ends under
// spare, a sequence that is its own.
func (c *canceller) commitDelayed(ctx context.Context, later jetstream.Stream, m *jetstream.RawStreamMsg, first, spare uint64) (uid string, err error) {
	epoch := jobs.Epoch(later.CachedInfo().Created)
	report := delayedReport(m, epoch)
	end := func(sequence uint64) error {
		j := decodeStored(m, epoch)
		j.UID, j.ID, j.Subject = report.UID, report.ID, report.Subject
		j.Ref = jobs.Ref{Epoch: bus.StreamLater + "-" + epoch, Seq: sequence} // a page of its own, beside those of the job stream
		return c.commit(ctx, &j)
	}
	if err = end(first); !errors.Is(err, ErrFinal) {
		return report.UID, err
	}
	if first != m.Sequence {
		before := bus.LaterSubject(jobs.Ref{Epoch: epoch, Seq: first}.UID())
		ended, err := c.final(ctx, before)
		switch {
		case errors.Is(err, ErrNotFound), err == nil && (ended.ID == report.ID || ended.ID == before):
			return report.UID, nil // it was interrupted after its event, which may have been erased
		case err != nil:
			return report.UID, err
		}
	}
	return report.UID, end(spare)
}
