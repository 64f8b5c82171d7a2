package bus

import (
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/jobs"
)

// headerHeld is in a delayed job that is held: the sequence in LATER that it had before.
const headerHeld = "Rollcall-Held"

// Once begins the schedule of a message that is published once.
const Once = "@at "

// OnceAt is the schedule of a message that is published at that time alone.
func OnceAt(at time.Time) string { return Once + at.UTC().Format(time.RFC3339Nano) }

// HeldJob makes a delayed job again, due at another time, under its first sequence in LATER. Of its headers it has
// those that the server would not act on.
func HeldJob(m *jetstream.RawStreamMsg, first uint64, due time.Time) *nats.Msg {
	held := &nats.Msg{Subject: m.Subject, Header: KeptHeaders(m.Header, nats.Header{headerHeld: nil}), Data: m.Data}
	job := jobs.Delivery{Header: m.Header}
	if id, _ := job.HeaderValue(jobs.HeaderMsgID); id != "" && held.Header.Get("ce-id") == "" {
		if _, named := job.HeaderValue("ce-id"); !named {
			held.Header.Set("ce-id", id) // the server would take its message id for the one that it has
		}
	}
	held.Header.Set(HeaderSchedule, OnceAt(due))
	held.Header.Set(HeaderScheduleTarget, m.Header.Get(HeaderScheduleTarget))
	held.Header.Set(headerHeld, strconv.FormatUint(first, 10))
	return held
}

// FirstSequence returns the sequence in LATER that a job had before it was held, as it says itself; ok is false
// if it says none that could be.
func FirstSequence(m *jetstream.RawStreamMsg) (first uint64, ok bool) {
	job := jobs.Delivery{Header: m.Header}
	value, _ := job.HeaderValue(headerHeld)
	first, ok = parseUint(value)
	return first, ok && 0 < first && first < m.Sequence
}
