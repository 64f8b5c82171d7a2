package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"rollcall/internal/jobs"
)

// natsTransport sends calls as requests.
type natsTransport struct {
	cfg     *Config
	conn    *nats.Conn
	heed    func(ctx context.Context, subject string) (heeding context.Context, stop context.CancelFunc)
	target  subject
	extra   *watched[[]extraHeader]
	version string
	sign    *watched[signer]
	reading reading
}

const natsScheme = "nats://"

func newNATS(name, rawURL string, cfg *Config, deps Deps) (*natsTransport, error) {
	if deps.Conn == nil {
		return nil, errors.New("a nats:// service needs a NATS connection")
	}
	t := &natsTransport{cfg: cfg, conn: deps.Conn, heed: deps.Heed, version: deps.Version, reading: newReading(name, cfg, deps.RetryMax)}
	var err error
	if t.target, err = parseSubject(strings.TrimPrefix(rawURL, natsScheme)); err != nil {
		return nil, err
	}
	if t.extra, err = newExtra(name, cfg, deps); err != nil {
		return nil, err
	}
	t.sign, err = newWatched(Variable(name, "SECRET"), cfg.Secret, deps.Log, parseSecrets)
	return t, err
}

func (t *natsTransport) close() {}

// prepare implements transport. A message for one job that the server would refuse is that
// job's failure; a batch is split before it comes here.
func (t *natsTransport) prepare(call *jobs.Call) (*request, *jobs.Failure) {
	r := &request{call: call}
	var job *jobs.Job
	if len(call.Jobs) > 0 {
		job = call.Jobs[0]
	}
	var err error
	if r.subject, err = t.target.fill(job); err != nil {
		return nil, unfilled(err)
	}
	if err = r.fillExtra(t.extra.get()); err != nil {
		return nil, unfilled(err)
	}
	if t.cfg.Format != FormatBatch && !t.carries(r) {
		return nil, tooLargeForNATS(len(call.Body), t.reading.name)
	}
	return r, nil
}

// fits reports whether body and headers stay under the server's max payload. A bound is enough for what
// can be split; a single job is measured.
func (t *natsTransport) fits(call *jobs.Call) bool {
	if int64(len(call.Body)+t.headerSize(call)) <= t.conn.MaxPayload() {
		return true
	}
	r := &request{call: call}
	return len(call.Jobs) == 1 && r.fillExtra(t.extra.get()) == nil && t.carries(r)
}

// carries reports whether the server takes a request of that length. It counts headers and body.
func (t *natsTransport) carries(r *request) bool {
	return int64((&nats.Msg{Header: t.header(r), Data: r.call.Body}).Size()) <= t.conn.MaxPayload()
}

// headerSize bounds the length of the headers from above, in bytes.
func (t *natsTransport) headerSize(call *jobs.Call) int {
	const names, signature, timestamp, ofJob = 320, 50, 20, 200
	size := names + len(t.version) + len(call.Key)*2 + partSuffix + len(call.BatchID) + len(call.Pool) +
		len(call.Traceparent) + timestamp + ofJob + len(t.sign.get().secrets)*signature
	for _, h := range t.extra.get() {
		size += h.size()
	}
	if parent, state := traceOf(call); call.Traceparent == "" {
		size += len(parent) + len(state)
	}
	return size
}

// send implements transport. The first reply wins: later ones find nobody waiting.
func (t *natsTransport) send(ctx context.Context, _ context.CancelFunc, r *request) ([]jobs.Reply, *jobs.Failure) {
	heeding := ctx
	if t.heed != nil {
		var stop context.CancelFunc
		heeding, stop = t.heed(ctx, r.subject)
		defer stop()
	}
	closed := t.conn.IsClosed() // what is closed later may have carried the request
	// nats.go copies the message before it waits for the reply.
	msg, err := t.conn.RequestMsgWithContext(heeding, &nats.Msg{Subject: r.subject, Header: t.header(r), Data: r.call.Body})
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, &jobs.Failure{Reason: jobs.ReasonRefused, Err: fmt.Errorf("call %s: nobody listens: %w", r.subject, err)}
	case err != nil && (closed || isUnsent(err)):
		return nil, &jobs.Failure{Reason: jobs.ReasonOverload, Err: &unsentError{fmt.Errorf("call %s: nothing was sent: %w", r.subject, err)}}
	case err != nil && ctx.Err() == nil && heeding.Err() != nil:
		return nil, &jobs.Failure{
			Reason: jobs.ReasonRefused, Misconfigured: true, Free: true,
			Err: fmt.Errorf("call %s: %w; let this user publish there", r.subject, context.Cause(heeding)),
		}
	case err != nil:
		return nil, t.broken(ctx, r, err)
	}
	code := headerOf(msg.Header, micro.ErrorCodeHeader)
	switch {
	case code != "":
	case headerOf(msg.Header, micro.ErrorHeader) != "":
		code = "500"
	default:
		code = notStored(msg.Data)
	}
	status := natsStatus(code)
	r.answer.noteStatus(status)
	if t.reading.classify(status) != accepted {
		return nil, t.errorReply(msg, status, r.extra)
	}
	if r.answer != nil {
		r.answer.secrets = r.extra
	}
	r.answer.noteBody(msg.Data)
	known := func() []string { return r.extra }
	replies, failure := t.reading.accept(r.call, msg.Data, headerOf(msg.Header, headerContentType), known)
	if failure != nil && t.cfg.Format != FormatBatch {
		return t.reading.accept(r.call, nil, "", known)
	}
	return replies, failure
}

// notStored returns the code of JetStream's answer where a stream listens and did not store the request,
// else an empty text.
func notStored(body []byte) string {
	if !bytes.HasPrefix(body, []byte(`{"error":{`)) { // it writes its answers so
		return ""
	}
	var answer struct {
		Error struct {
			Code    int `json:"code"`
			ErrCode int `json:"err_code"`
		} `json:"error"`
		Stream *string `json:"stream"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Stream == nil || answer.Error.Code == 0 || answer.Error.ErrCode == 0 {
		return "" // an answer of a service's own
	}
	return strconv.Itoa(answer.Error.Code)
}

// natsStatus reads Nats-Service-Error-Code; a reply without one is a 200.
func natsStatus(code string) int {
	if code == "" {
		return http.StatusOK
	}
	n, err := strconv.Atoi(code)
	if err != nil || n < 100 || n > maxStatus {
		return http.StatusInternalServerError
	}
	return n
}

// isUnsent reports whether nats.go kept a request to itself: there is no connection for now, or its
// server would refuse a message of that length.
func isUnsent(err error) bool {
	return errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrConnectionDraining) || errors.Is(err, nats.ErrMaxPayload)
}

func (t *natsTransport) broken(ctx context.Context, r *request, err error) *jobs.Failure {
	reason := jobs.ReasonReset
	if ctx.Err() != nil || errors.Is(err, nats.ErrTimeout) {
		reason = jobs.ReasonTimeout
	}
	return &jobs.Failure{Reason: reason, Err: fmt.Errorf("call %s: %w", r.subject, err)}
}

// errorReply reads a reply in the manner of micro: a code like those of HTTP, and a text.
func (t *natsTransport) errorReply(msg *nats.Msg, status int, known []string) *jobs.Failure {
	said := headerOf(msg.Header, micro.ErrorHeader)
	if said == "" {
		said = string(msg.Data[:min(len(msg.Data), maxDrained)])
	}
	return t.reading.failure(status, jobs.Printable(hide(said, known...), maxQuote), headerOf(msg.Header, headerRetryAfter), time.Now())
}

// header returns the headers of one try. nats.go reads their names case-sensitively; those of
// other specifications are written as these have them.
func (t *natsTransport) header(r *request) nats.Header {
	call := r.call
	f := newFields()
	f.set("User-Agent", "rollcall/"+t.version)
	f.set(headerIdempotencyKey, `"`+call.Key+`"`)
	f.set(headerBatch, call.BatchID)
	f.set(headerPool, call.Pool)
	parent, state := traceOf(call)
	f.set("traceparent", parent)
	f.set("tracestate", state)
	if len(call.Jobs) == 1 {
		f.ofJob(call.Jobs[0])
	}
	switch {
	case t.cfg.Format == FormatBatch:
		f.set(headerContentType, jobs.MediaBatch)
	case len(call.Body) > 0:
		f.set(headerContentType, mediaType(call.Jobs[0]))
	}
	if t.cfg.Format == FormatEvent {
		call.Jobs[0].EachAttribute(func(name, value string) { f.set("ce-"+name, encodeAttribute(value)) })
		if len(call.Body) > 0 {
			f.set("ce-datacontenttype", encodeAttribute(mediaType(call.Jobs[0])))
		}
	}
	if s := t.sign.get(); len(s.secrets) > 0 {
		timestamp, signature := s.sign(call.Key, time.Now().Add(-r.age), call.Body)
		f.set("webhook-id", call.Key)
		f.set("webhook-timestamp", timestamp)
		f.set("webhook-signature", signature)
	}
	r.setExtra(f)
	return f.over(nil)
}

// headerOf reads a header case-insensitively: services in other languages spell as they like.
func headerOf(h nats.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	for k, values := range h {
		if strings.EqualFold(k, name) && len(values) > 0 {
			return values[0]
		}
	}
	return ""
}
