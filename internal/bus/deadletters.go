package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/retry"
)

// Headers that a dead letter carries besides those of the job.
const (
	headerReason    = "Rollcall-Reason"
	headerOutcome   = "Rollcall-Outcome"
	headerAttempts  = "Rollcall-Attempts"
	headerService   = "Rollcall-Service"
	headerBatch     = "Rollcall-Batch"
	headerUID       = "Rollcall-Uid"
	headerID        = "Rollcall-Id"
	headerSubject   = "Rollcall-Subject"
	headerFailedAt  = "Rollcall-Failed-At"
	headerTruncated = "Rollcall-Truncated"
)

const (
	// maxHeader is the longest header a stream takes (server/jetstream_batching.go,
	// checkMsgHeadersPreClusteredProposal: error 10097 above 64 KiB).
	maxHeader = 64<<10 - 1
	// maxDeadSubject keeps the subject of a letter far enough below the server's limit on
	// protocol lines (max_control_line, 4 KiB): a longer line makes it close the connection.
	maxDeadSubject = 3 << 10
	// maxLetterID is the longest id that a letter says in a header of its own, in bytes.
	maxLetterID = 256
	// maxLetterReason is the longest reason that a letter gives, in bytes.
	maxLetterReason = 1024
	// letterTimeout is how long a PubAck is waited for before the letter is sent again.
	letterTimeout = 5 * time.Second
	// refusedFor is how long a letter is offered to a stream that does not take it, because it is
	// full or missing: longer than an election lasts.
	refusedFor = 5 * time.Second
)

// DeadLetters stores copies of jobs that ended badly in the DEAD stream.
type DeadLetters struct {
	conn     *Conn
	pool     string
	failures *retry.Outage
	// setup makes the stream again if it was deleted; nil where nobody does.
	setup *Setup
}

// NewDeadLetters returns the dead letters of a pool.
func NewDeadLetters(conn *Conn, pool string, log zerolog.Logger) *DeadLetters {
	return &DeadLetters{conn: conn, pool: pool, failures: retry.NewOutage(log, "publishing dead letters")}
}

// MadeBy lets setup make the stream again when nobody takes the letters, or say what is missing
// where it must not. It returns d.
func (d *DeadLetters) MadeBy(setup *Setup) *DeadLetters {
	d.setup = setup
	return d
}

// Publish implements pool.DeadLetters. All letters are sent at once. Unconfirmed letters are sent
// again until ctx ends, refused ones for a moment only. Within the stream's
// duplicate window (two minutes unless set otherwise) the message id keeps the second copy out.
func (d *DeadLetters) Publish(ctx context.Context, letters []jobs.DeadLetter) error {
	began, failed := time.Now(), d.conn.clock.Now()
	open := make(map[int]*nats.Msg, len(letters))
	for i := range letters {
		open[i] = nil
	}
	again := retry.Backoff{Lo: 50 * time.Millisecond, Hi: 2 * time.Second}
	for limit := int64(0); ; {
		if now := d.conn.nc.MaxPayload(); now != limit { // the server may take less from a reconnect on
			limit = now
			for i := range open {
				open[i] = deadLetter(d.pool, &letters[i], int(limit), failed)
			}
		}
		refused, err := d.publish(ctx, open)
		if len(open) == 0 {
			d.failures.Ended()
			return nil
		}
		if d.setup != nil && errors.Is(err, nats.ErrNoResponders) {
			_, _, missing := d.setup.Ensure(ctx)
			err = errors.Join(missing, err)
		}
		d.failures.Failed(err)
		if refused == len(open) && time.Since(began) >= refusedFor {
			e := &jobs.LettersError{Refused: make([]bool, len(letters)), Err: err}
			for i := range open {
				e.Refused[i] = true
			}
			return e
		}
		if cause := retry.Wait(ctx, again.Next()); cause != nil {
			return fmt.Errorf("publish %d dead letters: %w: %w", len(open), cause, err)
		}
	}
}

// publish sends the open letters and strikes those off that are confirmed. It returns how many of
// the others the broker answered but did not take, with a reason. It does without the asynchronous
// publisher of nats.go, whose goroutine may outlive a short use.
func (d *DeadLetters) publish(ctx context.Context, open map[int]*nats.Msg) (refused int, err error) {
	ctx, cancel := context.WithTimeout(ctx, letterTimeout)
	defer cancel()
	inbox, answers := d.conn.nc.NewInbox()+".", make(chan *nats.Msg, len(open))
	sub, err := d.conn.nc.ChanSubscribe(inbox+"*", answers)
	if err != nil {
		return 0, fmt.Errorf("subscribe to the inbox of dead letters: %w", err)
	}
	defer func() { err = errors.Join(err, unsubscribe(sub)) }()
	waiting := make(map[string]int, len(open))
	for _, i := range slices.Sorted(maps.Keys(open)) { // in the order of the jobs
		letter := open[i]
		letter.Reply = inbox + strconv.Itoa(i)
		if err := d.conn.nc.PublishMsg(letter); err != nil {
			return 0, err
		}
		waiting[letter.Reply] = i
	}
	var refusal error
	for range len(waiting) {
		select {
		case answer := <-answers:
			if err := readStoredLetter(answer); err != nil {
				refused, refusal = refused+1, err
				continue
			}
			if i, sent := waiting[answer.Subject]; sent {
				delete(open, i)
			}
		case <-ctx.Done():
			return refused, errors.Join(refusal, ctx.Err())
		case <-d.conn.closed:
			return refused, errors.Join(refusal, ErrClosed, d.conn.Err())
		}
	}
	return refused, refusal
}

// readStoredLetter returns nil if the reply to a letter confirms that it is stored.
func readStoredLetter(answer *nats.Msg) error {
	if answer.Header.Get("Status") == "503" {
		return nats.ErrNoResponders
	}
	ack, err := decodePubAck(answer.Data)
	if err != nil {
		return err
	}
	if ack.Error != nil {
		return fmt.Errorf("%s (%d)", ack.Error.Description, ack.Error.ErrCode)
	}
	return nil
}

// deadLetter returns the message for a letter. A body that does not fit with its headers is
// cut; so are headers that do not fit at all, but never those with the reason.
func deadLetter(pool string, letter *jobs.DeadLetter, maxPayload int, now time.Time) *nats.Msg {
	j, r := letter.Job, letter.Ruling
	reasons := nats.Header{
		jobs.HeaderMsgID: {j.UID + "." + letter.BatchID},
		headerReason:     {jobs.Printable(r.Reason, maxLetterReason)},
		headerOutcome:    {r.Outcome.String()},
		headerAttempts:   {strconv.Itoa(r.Attempt)},
		headerService:    {r.Service},
		headerBatch:      {letter.BatchID},
		headerUID:        {j.UID},
		headerSubject:    {j.Subject},
		headerFailedAt:   {now.UTC().Format(time.RFC3339Nano)},
	}
	if j.ID != j.UID && j.ID == jobs.Printable(j.ID, maxLetterID) {
		reasons[headerID] = []string{j.ID}
	}
	m := &nats.Msg{Subject: DeadSubject(pool, clipSubject(j.Subject)), Header: KeptHeaders(j.Header, reasons), Data: j.Data}
	maps.Copy(m.Header, reasons)
	if headerLength(m.Header) > min(maxHeader, maxPayload) {
		m.Header = reasons
		m.Header[headerTruncated] = []string{"true"}
	}
	if headerLength(m.Header)+len(m.Data) > maxPayload {
		m.Header[headerTruncated] = []string{"true"}
		m.Data = m.Data[:max(maxPayload-headerLength(m.Header), 0)]
	}
	return m
}

// KeptHeaders returns the headers of a job that may be published again: not those the server would act on, nor a
// status, which clients take for the server's word, nor any that pass themselves off as ours or as a letter's,
// whether or not this one has them, nor names that nats.go refuses to send.
func KeptHeaders(header map[string][]string, ours nats.Header) nats.Header {
	kept := make(nats.Header, len(header)+len(ours)+1)
	for name, values := range header {
		if ActsOnServer(name) || strings.EqualFold(name, headerTruncated) || strings.EqualFold(name, headerID) ||
			strings.EqualFold(name, "Status") || !sendable(name) {
			continue
		}
		taken := false
		for our := range ours {
			taken = taken || strings.EqualFold(name, our)
		}
		if !taken {
			kept[name] = values
		}
	}
	return kept
}

// sendable reports whether nats.go sends a header of this name (nats.go, isHeaderKeyValid).
func sendable(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' })
}

// headerLength is how many bytes the header takes on the wire, version line and all.
func headerLength(header nats.Header) int {
	n := len("NATS/1.0\r\n\r\n")
	for name, values := range header {
		for _, value := range values {
			n += len(name) + len(": ") + len(value) + len("\r\n")
		}
	}
	return n
}

// clipSubject shortens a subject that would break the limit on protocol lines; the letter's
// header still has it in full.
func clipSubject(subject string) string {
	if len(subject) <= maxDeadSubject {
		return subject
	}
	return strings.TrimRight(subject[:maxDeadSubject], ".")
}

// CoreDeadLetters publishes dead letters without waiting for anyone to store them: in
// core mode there may be no stream. If there is a DEAD stream, it does.
type CoreDeadLetters struct {
	conn *Conn
	pool string
}

// NewCoreDeadLetters returns the dead letters of a pool in core mode.
func NewCoreDeadLetters(conn *Conn, pool string) *CoreDeadLetters {
	return &CoreDeadLetters{conn: conn, pool: pool}
}

// Publish implements pool.DeadLetters, at most once. While the connection is away it waits,
// until ctx ends.
func (d *CoreDeadLetters) Publish(ctx context.Context, letters []jobs.DeadLetter) error {
	now := d.conn.clock.Now()
	for i := range letters {
		m := deadLetter(d.pool, &letters[i], int(d.conn.nc.MaxPayload()), now)
		if err := d.conn.publishOnline(ctx, m); err != nil {
			return fmt.Errorf("publish a dead letter: %w", err)
		}
	}
	return nil
}
