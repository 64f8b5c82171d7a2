package operate

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// serverHeaders is what the names of all headers begin with that nats-server acts on.
const serverHeaders = "Nats-"

// headerCloudEventID carries the id of a delayed job: the server strips Nats-Msg-Id from the
// message that it makes when a schedule is due (scheduler.go, getScheduledMessages).
const headerCloudEventID = "ce-id"

// Messages is a sequence of jobs that ends with its first fault.
type Messages = iter.Seq2[*nats.Msg, error]

// Posting makes jobs of bodies.
type Posting struct {
	Subject string
	// Headers are of the form Name:value.
	Headers []string
	// ID of the job, its Nats-Msg-Id; with Numbered, which tells that there may be several jobs,
	// each gets its number after it.
	ID       string
	Numbered bool
	// Deadline is when the jobs expire.
	Deadline Point
	// Delay is how much later the jobs are handed out; 0 for at once.
	Delay time.Duration

	header nats.Header
	// due is where the server publishes a delayed job.
	due string
}

// Prepare checks the posting. Its errors name the flags of publish. It must be called before
// [Posting.Messages].
func (p *Posting) Prepare() error {
	if err := jobs.CheckSubject(p.Subject); err != nil {
		return err
	}
	if strings.ContainsAny(p.ID, "\r\n") {
		return fmt.Errorf("--id %q: want one line", p.ID)
	}
	if err := p.readHeaders(); err != nil {
		return err
	}
	return p.checkDelay()
}

// readHeaders refuses headers that the server acts on: they may delete, hide or duplicate jobs
// of others.
func (p *Posting) readHeaders() error {
	p.header = nats.Header{}
	for _, h := range p.Headers {
		name, value, ok := strings.Cut(h, ":")
		if name = strings.TrimSpace(name); !ok || name == "" || strings.ContainsAny(h, "\r\n") {
			return fmt.Errorf("--header %q: want Name:value", h)
		}
		if len(name) >= len(serverHeaders) && strings.EqualFold(name[:len(serverHeaders)], serverHeaders) {
			return fmt.Errorf("--header %q: %s* headers are orders to the server; use --id for Nats-Msg-Id and --delay for a schedule", h, serverHeaders)
		}
		p.header.Add(name, strings.TrimSpace(value))
	}
	return nil
}

func (p *Posting) checkDelay() error {
	if p.Delay < 0 {
		return fmt.Errorf("--delay %v: want a time to come, such as 30s or 2h", p.Delay)
	}
	if p.Delay == 0 {
		return nil
	}
	var ok bool
	if p.due, ok = bus.DueSubject(p.Subject); !ok {
		return fmt.Errorf("--delay: only jobs on jobs.> can be delayed, not those on %s", p.Subject)
	}
	if p.ID != "" {
		if err := jobs.CheckSubject(bus.LaterSubject(p.ID)); err != nil {
			return fmt.Errorf("--id of a delayed job becomes part of a subject: %w", err)
		}
	}
	if d := p.Deadline.distance; d > 0 && d <= p.Delay {
		return fmt.Errorf("--deadline %v is not later than --delay %v: the job would expire before it is handed out", d, p.Delay)
	}
	return nil
}

// ErrTooLate is returned for jobs whose deadline passes before they are handed out.
var ErrTooLate = errors.New("the deadline passes before the job is handed out")

// Messages turns bodies into jobs. Relative times go by clock, the broker's.
func (p *Posting) Messages(clock Clock, bodies iter.Seq2[[]byte, error]) Messages {
	return func(yield func(*nats.Msg, error) bool) {
		n := 0
		for body, err := range bodies {
			n++
			now := clock.Now()
			if at := p.Deadline.From(now); err == nil && p.Delay > 0 && !at.IsZero() && !at.After(now.Add(p.Delay)) {
				err = fmt.Errorf("%w: --deadline is %s, and the broker's clock says %s",
					ErrTooLate, at.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(p.message(n, now, body), nil) {
				return
			}
		}
	}
}

// message returns the n-th job, counting from 1. A delayed one goes to later.<id>, where the
// server keeps it until it is due.
func (p *Posting) message(n int, now time.Time, body []byte) *nats.Msg {
	m := &nats.Msg{Subject: p.Subject, Header: maps.Clone(p.header), Data: body}
	if at := p.Deadline.From(now); !at.IsZero() {
		m.Header.Set(jobs.HeaderDeadline, at.UTC().Format(time.RFC3339Nano))
	}
	id := p.ID
	if id != "" && p.Numbered {
		id = fmt.Sprintf("%s-%d", id, n)
	}
	if id != "" {
		m.Header.Set(jobs.HeaderMsgID, id)
	}
	if p.Delay > 0 {
		if id == "" {
			id = nuid.Next()
		}
		m.Subject = bus.LaterSubject(id)
		m.Header.Set(headerCloudEventID, id)
		m.Header.Set(bus.HeaderSchedule, "@at "+now.Add(p.Delay).UTC().Format(time.RFC3339Nano))
		m.Header.Set(bus.HeaderScheduleTarget, p.due)
	}
	return m
}

// MessageID is what the producer called a job, empty if nothing.
func MessageID(m *nats.Msg) string {
	if id := m.Header.Get(jobs.HeaderMsgID); id != "" {
		return id
	}
	return m.Header.Get(headerCloudEventID)
}
