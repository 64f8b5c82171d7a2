package operate

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

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
	// ID of the job, its Nats-Msg-Id; with Numbered, for several jobs,
	// each gets its number after it.
	ID       string
	Numbered bool
	// Deadline is when the jobs expire.
	Deadline Point
	// Delay is how much later the jobs are handed out; 0 for at once.
	Delay time.Duration
	// Set names the set that the jobs are members of, SetSize how many those are; 0 = not said.
	Set     string
	SetSize int
	// Unique is a key: the job is refused with [ErrOpen] while another of the key is open.
	Unique string
	// Debounce is a key: of the delayed jobs of a key that wait only the newest is kept.
	Debounce string

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
	for _, check := range []func() error{p.checkSet, p.checkKeys, p.checkDelay} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
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
		if bus.ActsOnServer(name) {
			return fmt.Errorf("--header %q: %s* headers are orders to the server; use --id for Nats-Msg-Id and --delay for a schedule", h, bus.HeadersOfServer)
		}
		p.header.Add(name, strings.TrimSpace(value))
	}
	return nil
}

// checkSet checks the membership in a set.
func (p *Posting) checkSet() error {
	switch {
	case p.Set == "" && p.SetSize == 0:
		return nil
	case p.Set == "":
		return errors.New("--set-size says how many members a set has: give --set too")
	case !jobs.ValidSet(p.Set):
		return fmt.Errorf("--set %q: %w", p.Set, ErrSetName)
	case p.SetSize < 0:
		return fmt.Errorf("--set-size %d: want how many members the set has, 1 or more", p.SetSize)
	}
	p.header.Set(jobs.HeaderSet, p.Set)
	if p.SetSize > 0 {
		p.header.Set(jobs.HeaderSetSize, strconv.Itoa(p.SetSize))
	}
	return nil
}

// checkKeys checks that at most one rule makes the job the only one of its key.
func (p *Posting) checkKeys() error {
	if p.Unique == "" && p.Debounce == "" {
		return nil
	}
	switch {
	case p.Unique != "" && p.Debounce != "":
		return errors.New("--unique and --debounce are both given: keep one")
	case p.Numbered:
		return errors.New("--unique and --debounce are for one job: give it as BODY or by --file")
	case p.Unique != "" && p.Delay > 0:
		return errors.New("--unique and --delay are both given: of delayed jobs --debounce KEY keeps the newest")
	case p.Debounce != "" && p.Delay <= 0:
		return errors.New("--debounce needs --delay: how long to wait for a newer job of the same key")
	case p.Unique != "":
		p.Subject += "." + p.Unique
		if err := jobs.CheckSubject(p.Subject); err != nil {
			return fmt.Errorf("--unique becomes part of the subject: %w", err)
		}
	default:
		if err := jobs.CheckSubject(bus.DebounceSubject(p.Debounce)); err != nil {
			return fmt.Errorf("--debounce becomes part of a subject: %w", err)
		}
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
		if subject := bus.LaterSubject(p.ID); p.Debounce == "" && (jobs.SubjectCovers(bus.ScheduleSubject(">"), subject) || jobs.SubjectCovers(bus.DebounceSubject(">"), subject)) {
			return fmt.Errorf("--id %s: a delayed job waits on %s, where schedules and keys of --debounce have theirs; want another id", p.ID, subject)
		}
	}
	if d := p.Deadline.distance; d > 0 && d <= p.Delay {
		return fmt.Errorf("--deadline %v is not later than --delay %v: the job would expire before it is handed out", d, p.Delay)
	}
	return nil
}

// ErrTooLate is returned for jobs whose deadline passes before they are handed out.
var ErrTooLate = errors.New("the deadline passes before the job is handed out")

// Messages turns bodies into jobs. Relative times go by clock, see [Admin.Clock].
func (p *Posting) Messages(clock Clock, bodies iter.Seq2[[]byte, error]) Messages {
	return func(yield func(*nats.Msg, error) bool) {
		n := 0
		for body, err := range bodies {
			n++
			now := clock.Now()
			if at := p.Deadline.From(now); err == nil && p.Delay > 0 && !at.IsZero() && !at.After(now.Add(p.Delay)) {
				err = fmt.Errorf("%w: --deadline is %s, and it is %s",
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
	if p.Unique != "" {
		m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
	}
	if p.Delay > 0 {
		if id == "" {
			id = nuid.Next()
		}
		m.Subject = bus.LaterSubject(id)
		if p.Debounce != "" {
			m.Subject = bus.DebounceSubject(p.Debounce)
		}
		if given := MessageID(m); given == "" || given == id {
			m.Header.Set(headerCloudEventID, id)
		}
		m.Header.Set(bus.HeaderSchedule, bus.OnceAt(now.Add(p.Delay)))
		m.Header.Set(bus.HeaderScheduleTarget, p.due)
	}
	return m
}

// MessageID is what the producer called a job, empty if nothing: its id in events.
func MessageID(m *nats.Msg) string {
	j := jobs.Decode(jobs.Delivery{Subject: m.Subject, Header: m.Header, Data: m.Data}, 0)
	if j.ID == j.UID {
		return ""
	}
	return j.ID
}
