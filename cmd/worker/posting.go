package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
	"golang.org/x/term"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

const (
	// maxSubject bounds the subject of a job, in bytes. nats-server closes the connection at
	// a protocol line above 4096 (MAX_CONTROL_LINE_SIZE), and the line also holds reply
	// subject and sizes; a dead letter's subject is longer than its job's.
	maxSubject = 2048
	// maxLine bounds a job on standard input, in bytes: far above the 8 MiB that nats-server
	// warns about as a max_payload (MAX_PAYLOAD_MAX_SIZE).
	maxLine = 64 << 20
	// minRate is a job in a quarter of an hour: less is a job for cron.
	minRate = 0.001
)

// serverHeaders is what the names of all headers begin with that nats-server acts on.
const serverHeaders = "Nats-"

// headerCloudEventID carries the id of a delayed job: the server strips Nats-Msg-Id from the
// message that it makes when a schedule is due (scheduler.go, getScheduledMessages).
const headerCloudEventID = "ce-id"

// postingFlags are the flags of publish that say what to send.
type postingFlags struct {
	file     string
	count    int
	id       string
	deadline string
	delay    time.Duration
	headers  []string
	rate     float64
}

// posting makes messages out of bodies.
type posting struct {
	subject string
	header  nats.Header
	id      string
	// numbered tells that there may be several jobs, so that each id gets its number.
	numbered bool
	delay    time.Duration
	// due is where the server publishes a delayed job.
	due string
}

// newPosting checks the flags. now is what relative times count from.
func newPosting(subject string, f *postingFlags, numbered bool, now time.Time) (*posting, error) {
	p := &posting{subject: subject, header: nats.Header{}, id: f.id, numbered: numbered, delay: f.delay}
	if err := checkSubject(subject); err != nil {
		return nil, err
	}
	if f.delay < 0 {
		return nil, fmt.Errorf("--delay %v: want a time to come, such as 30s or 2h", f.delay)
	}
	if f.delay > 0 {
		due, ok := bus.DueSubject(subject)
		if !ok {
			return nil, fmt.Errorf("--delay: only jobs on jobs.> can be delayed, not those on %s", subject)
		}
		p.due = due
	}
	if err := p.addHeaders(f.headers); err != nil {
		return nil, err
	}
	if f.deadline != "" {
		at, err := parseDeadline(f.deadline, now)
		if err != nil {
			return nil, err
		}
		p.header.Set(jobs.HeaderDeadline, at.UTC().Format(time.RFC3339Nano))
	}
	if f.id != "" && f.delay > 0 {
		if err := checkSubject(bus.LaterSubject(f.id)); err != nil {
			return nil, fmt.Errorf("--id of a delayed job becomes part of a subject: %w", err)
		}
	}
	if strings.ContainsAny(f.id, "\r\n") {
		return nil, fmt.Errorf("--id %q: want one line", f.id)
	}
	return p, nil
}

// addHeaders adds headers of the form Name:value. One that the server acts on is refused: it
// may delete, hide or duplicate jobs of others.
func (p *posting) addHeaders(headers []string) error {
	for _, h := range headers {
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

// checkSubject refuses what a job cannot be published to, before the server does: to a
// subject that is too long it answers by closing the connection.
func checkSubject(s string) error {
	switch {
	case len(s) > maxSubject:
		return fmt.Errorf("the subject has %d bytes: want at most %d", len(s), maxSubject)
	case strings.ContainsAny(s, "*>"):
		return fmt.Errorf("subject %q: a job goes to one subject, wildcards are for those who listen", s)
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return fmt.Errorf("subject %q: blanks and control characters are not allowed", s)
	}
	for token := range strings.SplitSeq(s, ".") {
		if token == "" {
			return fmt.Errorf("subject %q: want words between the dots, such as jobs.mail", s)
		}
	}
	return nil
}

// parseDeadline reads a point in time, or how long from now.
func parseDeadline(s string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return at, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return time.Time{}, fmt.Errorf("--deadline %q: want a time such as 2026-01-31T12:00:00Z, or how long from now, such as 10m", s)
	}
	return now.Add(d), nil
}

// messages is a sequence of jobs that ends with its first fault.
type messages = iter.Seq2[*nats.Msg, error]

// message returns the n-th job, counting from 1. A delayed one goes to later.<id>, where the
// server keeps it until it is due.
func (p *posting) message(n int, body []byte) *nats.Msg {
	m := &nats.Msg{Subject: p.subject, Header: nats.Header{}, Data: body}
	for name, values := range p.header {
		m.Header[name] = values
	}
	id := p.id
	if id != "" && p.numbered {
		id = fmt.Sprintf("%s-%d", id, n)
	}
	if id != "" {
		m.Header.Set(jobs.HeaderMsgID, id)
	}
	if p.delay > 0 {
		if id == "" {
			id = nuid.Next()
		}
		m.Subject = bus.LaterSubject(id)
		m.Header.Set(headerCloudEventID, id)
		m.Header.Set(bus.HeaderSchedule, "@at "+time.Now().Add(p.delay).UTC().Format(time.RFC3339Nano))
		m.Header.Set(bus.HeaderScheduleTarget, p.due)
	}
	return m
}

// messages turns bodies into jobs.
func (p *posting) messages(bodies iter.Seq2[[]byte, error]) messages {
	return func(yield func(*nats.Msg, error) bool) {
		n := 0
		for body, err := range bodies {
			if err != nil {
				yield(nil, err)
				return
			}
			n++
			if !yield(p.message(n, body), nil) {
				return
			}
		}
	}
}

// pace hands on the items of source, at most rate a second; 0 means as they come. What an item
// is late is not made up for.
func pace[T any](ctx context.Context, rate float64, source iter.Seq2[T, error]) iter.Seq2[T, error] {
	if rate == 0 {
		return source
	}
	return func(yield func(T, error) bool) {
		ticker := time.NewTicker(max(1, time.Duration(float64(time.Second)/rate)))
		defer ticker.Stop()
		first := true
		for item, err := range source {
			if !first {
				select {
				case <-ticker.C:
				case <-ctx.Done():
					return
				}
			}
			first = false
			if !yield(item, err) {
				return
			}
		}
	}
}

// bodies chooses where the jobs come from: the argument, a file, or standard input. numbered
// tells that there may be several.
func (c *cli) bodies(ctx context.Context, args []string, f *postingFlags) (source iter.Seq2[[]byte, error], numbered bool, err error) {
	var body []byte
	switch {
	case f.rate != 0 && !(f.rate >= minRate): // NaN is refused too
		return nil, false, fmt.Errorf("--rate %v: want 0, or at least %v", f.rate, minRate)
	case f.count < 1:
		return nil, false, fmt.Errorf("--count %d: want at least 1", f.count)
	case len(args) > 0 && f.file != "":
		return nil, false, errors.New("BODY and --file are both given: keep one")
	case len(args) > 0:
		body = []byte(args[0])
	case f.file == "-":
		if body, err = io.ReadAll(c.stdin); err != nil {
			return nil, false, fmt.Errorf("read standard input: %w", err)
		}
	case f.file != "":
		if body, err = os.ReadFile(f.file); err != nil {
			return nil, false, fmt.Errorf("read the job: %w", err)
		}
	case f.count > 1:
		return nil, false, errors.New("--count repeats one job: give it as BODY or by --file")
	case isTerminal(c.stdin):
		return nil, false, errors.New("nothing to publish: give BODY or --file, or pipe one JSON job per line to standard input")
	default:
		return lines(ctx, c.stdin), true, nil
	}
	return repeat(body, f.count), f.count > 1, nil
}

func repeat(body []byte, count int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for range count {
			if !yield(body, nil) {
				return
			}
		}
	}
}

// lines yields the non-empty lines of in, each checked to be JSON, until ctx is done. A read
// that blocks cannot be cut off, so the goroutine that reads is only waited for when it has
// something to give; at the end of the program it may still wait for a terminal.
func lines(ctx context.Context, in io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		type line struct {
			body []byte
			err  error
		}
		read := make(chan line)
		go func() {
			defer close(read)
			for body, err := range scan(in) {
				select {
				case read <- line{body, err}:
				case <-ctx.Done():
					return
				}
			}
		}()
		for {
			select {
			case l, more := <-read:
				if !more || !yield(l.body, l.err) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// scan yields the non-empty lines of in and ends with the first fault.
func scan(in io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		s := bufio.NewScanner(in)
		s.Buffer(nil, maxLine)
		n := 0
		for s.Scan() {
			n++
			body := bytes.TrimSpace(s.Bytes())
			if len(body) == 0 {
				continue
			}
			if !jobs.ValidJSON(body) {
				yield(nil, fmt.Errorf("standard input, line %d: not JSON; other bodies go one at a time, as BODY or by --file", n))
				return
			}
			if !yield(bytes.Clone(body), nil) {
				return
			}
		}
		if err := s.Err(); err != nil {
			yield(nil, fmt.Errorf("standard input, line %d: %w", n+1, err))
		}
	}
}

// isTerminal reports whether stream is a person's terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// messageID is what the producer called the job, empty if nothing.
func messageID(m *nats.Msg) string {
	if id := m.Header.Get(jobs.HeaderMsgID); id != "" {
		return id
	}
	return m.Header.Get(headerCloudEventID)
}
