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
	if !a.streams.Delays(a.conn) {
		return JobReport{}, false, nil
	}
	stream, err := a.conn.Stream(ctx, bus.StreamLater)
	if errors.Is(err, bus.ErrMissing) {
		return JobReport{}, false, nil
	}
	if err != nil {
		return JobReport{}, false, err
	}
	m, err := a.delayedMessage(ctx, stream, id)
	if err != nil || m == nil {
		return JobReport{}, false, err
	}
	return delayedReport(m, jobs.Epoch(stream.CachedInfo().Created)), true, nil
}

// delayedMessage returns the schedule of a job, nil if there is none.
func (a *Admin) delayedMessage(ctx context.Context, stream jetstream.Stream, id string) (*jetstream.RawStreamMsg, error) {
	if uid, ok := strings.CutPrefix(id, bus.LaterSubject("")); ok {
		if ref, err := jobs.ParseUID(uid); err == nil && ref.Epoch == jobs.Epoch(stream.CachedInfo().Created) {
			return a.storedJob(ctx, stream, ref.Seq)
		}
	}
	if subject := bus.LaterSubject(id); jobs.CheckSubject(subject) == nil {
		m, err := a.conn.LastMsg(ctx, stream, subject)
		if err == nil || !errors.Is(err, jetstream.ErrMsgNotFound) {
			return m, err
		}
	}
	return a.named(ctx, stream, bus.LaterSubject(">"), id)
}

// delayedReport reports a job by its schedule.
func delayedReport(m *jetstream.RawStreamMsg, epoch string) JobReport {
	report := JobReport{
		UID: bus.LaterSubject(jobs.Ref{Epoch: epoch, Seq: m.Sequence}.UID()), ID: decodeStored(m, epoch).ID,
		Published: m.Time, State: JobDelayed, History: []JobStep{{At: m.Time, What: StepPublished}}, Due: strings.TrimPrefix(m.Header.Get(bus.HeaderSchedule), "@at "),
	}
	if m.Header.Get("ce-id") == "" && m.Header.Get(jobs.HeaderMsgID) == "" {
		report.ID = strings.TrimPrefix(m.Subject, bus.LaterSubject(""))
	}
	report.Subject = m.Header.Get(bus.HeaderScheduleTarget)
	if subject, ok := bus.DelayedSubject(report.Subject); ok {
		report.Subject = subject
	}
	return report
}
