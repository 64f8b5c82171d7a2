package operate

import (
	"context"
	"errors"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// delayed looks for a job in LATER: by its uid there, by the name it waits under, by its id.
func (a *Admin) delayed(ctx context.Context, id string) (report JobReport, found bool, err error) {
	stream, err := a.laterIfAny(ctx)
	if err != nil || stream == nil {
		return JobReport{}, false, err
	}
	m, err := a.delayedMessage(ctx, stream, id)
	if err != nil || m == nil {
		return JobReport{}, false, err
	}
	return delayedReport(m, jobs.Epoch(stream.CachedInfo().Created)), true, nil
}

// laterIfAny looks LATER up; nil if the pool has no delayed jobs.
func (a *Admin) laterIfAny(ctx context.Context) (jetstream.Stream, error) {
	if !a.streams.Delays(a.conn) {
		return nil, nil
	}
	stream, err := a.conn.Stream(ctx, bus.StreamLater)
	if errors.Is(err, bus.ErrMissing) {
		return nil, nil
	}
	return stream, err
}

// takesOnceDue reports whether a message in LATER is a job that is one of the pool's once it is in the job stream. One
// that comes again and again is a schedule, and each of its jobs another.
func (a *Admin) takesOnceDue(m *jetstream.RawStreamMsg) bool {
	subject, ok := jobSubject(m)
	return ok && a.takes(subject) && (isDue(m) || strings.HasPrefix(m.Header.Get(bus.HeaderSchedule), bus.Once))
}

// jobSubject returns the subject that a job in LATER will have in the job stream.
func jobSubject(m *jetstream.RawStreamMsg) (subject string, ok bool) {
	if isDue(m) {
		return bus.DelayedSubject(m.Subject)
	}
	return bus.DelayedSubject(m.Header.Get(bus.HeaderScheduleTarget))
}

// isDue reports whether a job in LATER is due: it enters the job stream as soon as that takes it.
func isDue(m *jetstream.RawStreamMsg) bool {
	_, ok := bus.DelayedSubject(m.Subject)
	return ok
}

// delayedMessage returns a job of the pool that is in LATER, nil if there is none.
func (a *Admin) delayedMessage(ctx context.Context, stream jetstream.Stream, id string) (*jetstream.RawStreamMsg, error) {
	if uid, ok := strings.CutPrefix(id, bus.LaterSubject("")); ok {
		if ref, err := jobs.ParseUID(uid); err == nil && ref.Epoch == jobs.Epoch(stream.CachedInfo().Created) {
			m, err := a.storedJob(ctx, stream, ref.Seq)
			if err != nil || m == nil || !a.takesOnceDue(m) {
				return nil, err
			}
			return m, nil
		}
	}
	if subject := bus.LaterSubject(id); jobs.CheckSubject(subject) == nil {
		m, err := a.conn.LastMsg(ctx, stream, subject)
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && a.takesOnceDue(m) {
			return m, err
		}
	}
	if m, err := a.named(ctx, stream, bus.LaterSubject(">"), id, a.takesOnceDue); err != nil || m != nil {
		return m, err
	}
	waiting, err := a.dueWaiting(ctx, stream)
	if err != nil {
		return nil, err
	}
	return a.named(ctx, stream, bus.SubjectsDue, id, waiting)
}

// dueWaiting returns what tells the due jobs of the pool that the job stream has not taken yet from those that it has.
// While the server does not say, they count as taken.
func (a *Admin) dueWaiting(ctx context.Context, later jetstream.Stream) (waits func(*jetstream.RawStreamMsg) bool, err error) {
	entered, known, err := a.conn.Entered(ctx, a.streams.Stream, later.CachedInfo())
	return func(m *jetstream.RawStreamMsg) bool { return known && m.Sequence > entered && a.takesOnceDue(m) }, err
}

// delayedReport reports a job by its schedule.
func delayedReport(m *jetstream.RawStreamMsg, epoch string) JobReport {
	report := JobReport{
		UID: bus.LaterSubject(jobs.Ref{Epoch: epoch, Seq: m.Sequence}.UID()), ID: decodeStored(m, epoch).ID,
		Published: m.Time, State: JobDelayed, History: []JobStep{{At: m.Time, What: StepPublished}}, Due: strings.TrimPrefix(m.Header.Get(bus.HeaderSchedule), bus.Once),
	}
	if !isDue(m) && m.Header.Get("ce-id") == "" && m.Header.Get(jobs.HeaderMsgID) == "" {
		report.ID = strings.TrimPrefix(m.Subject, bus.LaterSubject(""))
	}
	report.Subject = m.Header.Get(bus.HeaderScheduleTarget)
	if subject, ok := jobSubject(m); ok {
		report.Subject = subject
	}
	return report
}
