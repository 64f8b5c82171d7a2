package operate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// SetSchedule stores a schedule with the body and the headers (Name:value) of its jobs. One of the
// same name is replaced.
func (a *Admin) SetSchedule(ctx context.Context, s Schedule, headers []string, body []byte) error {
	p := Posting{Subject: s.Subject, Headers: headers}
	if err := p.Prepare(); err != nil {
		return err
	}
	if _, err := a.later(ctx); err != nil && !errors.Is(err, bus.ErrDenied) {
		return err // a user without the right to look may still publish
	}
	due, _ := bus.DueSubject(s.Subject) // checked when the schedule was made
	m := &nats.Msg{Subject: bus.ScheduleSubject(s.Name), Header: p.header, Data: body}
	m.Header.Set(bus.HeaderSchedule, s.Pattern)
	m.Header.Set(bus.HeaderScheduleTarget, due)
	if s.Zone != "" {
		m.Header.Set(bus.HeaderScheduleZone, s.Zone)
	}
	if _, err := a.conn.JetStream().PublishMsg(ctx, m, jetstream.WithExpectStream(bus.StreamLater)); err != nil {
		return a.conn.Explain("set schedule "+s.Name, err)
	}
	return nil
}

// later looks up the stream of delayed and scheduled jobs. The error wraps [bus.ErrServerTooOld]
// if the server cannot have it, [bus.ErrMissing] if it is not there.
func (a *Admin) later(ctx context.Context) (jetstream.Stream, error) {
	if err := bus.CheckDelays(a.conn.NATS().ConnectedServerVersion()); err != nil {
		return nil, err
	}
	return a.conn.Stream(ctx, bus.StreamLater)
}

// Schedules lists the schedules, by the order in which they were set.
func (a *Admin) Schedules(ctx context.Context) (list []Schedule, err error) {
	stream, err := a.later(ctx)
	if err != nil {
		return nil, err
	}
	info := stream.CachedInfo()
	for seq := max(info.State.FirstSeq, 1); ; {
		m, err := a.conn.NextMsg(ctx, stream, bus.ScheduleSubject("*"), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return list, nil
		}
		if err != nil {
			return nil, a.conn.Explain("list the schedules", err)
		}
		list = append(list, readSchedule(m, info.TimeStamp))
		seq = m.Sequence + 1
	}
}

func readSchedule(m *jetstream.RawStreamMsg, now time.Time) Schedule {
	s := Schedule{
		Name: strings.TrimPrefix(m.Subject, bus.ScheduleSubject("")), Subject: m.Header.Get(bus.HeaderScheduleTarget),
		Pattern: m.Header.Get(bus.HeaderSchedule), Zone: m.Header.Get(bus.HeaderScheduleZone), Stored: m.Time,
	}
	if subject, ok := jobSubject(m); ok {
		s.Subject = subject
	}
	s.times(now)
	return s
}

// schedule reads one schedule's message. The error wraps [ErrNotFound] if there is none.
func (a *Admin) schedule(ctx context.Context, name string) (jetstream.Stream, *jetstream.RawStreamMsg, error) {
	stream, err := a.later(ctx)
	if err != nil {
		return nil, nil, err
	}
	unknown := fmt.Errorf("schedule %q: %w: 'worker schedule ls' lists them", name, ErrNotFound)
	if jobs.CheckSubject(bus.ScheduleSubject(name)) != nil { // a wildcard would find another one
		return nil, nil, unknown
	}
	m, err := a.conn.LastMsg(ctx, stream, bus.ScheduleSubject(name))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil, unknown
	}
	if err != nil {
		return nil, nil, a.conn.Explain("look for schedule "+name, err)
	}
	return stream, m, nil
}

// RunSchedule publishes the job of a schedule at once, beside its times, and returns its subject. The error wraps
// [ErrNotFound] if there is none.
func (a *Admin) RunSchedule(ctx context.Context, name string) (receipt Receipt, subject string, err error) {
	_, m, err := a.schedule(ctx, name)
	if err != nil {
		return Receipt{}, "", err
	}
	publisher, err := NewPublisher(ctx, a.conn, a.streams.Stream)
	if err != nil {
		return Receipt{}, "", err
	}
	subject, ok := jobSubject(m)
	if !ok || jobs.CheckSubject(subject) != nil {
		return Receipt{}, "", fmt.Errorf("schedule %s aims at %q: only one that aims at due.<type> can be run; its next time is not affected",
			name, m.Header.Get(bus.HeaderScheduleTarget))
	}
	msg := &nats.Msg{Subject: subject, Header: bus.KeptHeaders(m.Header, nil), Data: m.Data}
	err = publisher.Publish(ctx, func(yield func(*nats.Msg, error) bool) { yield(msg, nil) },
		func(_ *nats.Msg, r Receipt) error {
			receipt = r
			return nil
		})
	return receipt, subject, err
}

// RemoveSchedule removes a schedule. The error wraps [ErrNotFound] if there is none.
func (a *Admin) RemoveSchedule(ctx context.Context, name string) error {
	stream, m, err := a.schedule(ctx, name)
	if err != nil {
		return err
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSubject(m.Subject)); err != nil {
		return a.conn.Explain("remove schedule "+name, err)
	}
	return nil
}
