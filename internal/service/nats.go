package service

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"rollcall/internal/jobs"
)

// natsTransport sends calls as requests.
type natsTransport struct {
	conn    *nats.Conn
	subject string
	version string
	signer  signer
	decoder decoder
}

func newNATS(rawURL string, cfg Config, deps Deps) (*natsTransport, error) {
	if deps.Conn == nil {
		return nil, errors.New("a nats:// service needs a NATS connection")
	}
	secrets, err := parseSecrets(cfg.Secret)
	if err != nil {
		return nil, err
	}
	return &natsTransport{
		conn: deps.Conn, subject: strings.TrimPrefix(rawURL, natsScheme), version: deps.Version,
		signer: secrets, decoder: newDecoder(cfg.MaxReply, deps.RetryMax),
	}, nil
}

const natsScheme = "nats://"

func (t *natsTransport) close() {}

// fits reports whether body and headers stay under the server's max payload.
func (t *natsTransport) fits(call *jobs.Call) bool {
	return int64(len(call.Body)+t.headerSize(call)) <= t.conn.MaxPayload()
}

// headerSize bounds the length of the headers from above, in bytes.
func (t *natsTransport) headerSize(call *jobs.Call) int {
	const names, signature, timestamp = 320, 50, 20
	return names + len(t.version) + len(call.Key)*2 + partSuffix + len(call.BatchID) + len(call.Pool) +
		len(call.Traceparent) + timestamp + len(t.signer.secrets)*signature
}

// send implements transport. The first reply wins: later ones find nobody waiting.
func (t *natsTransport) send(ctx context.Context, call *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
	// nats.go copies the message before it waits for the answer.
	msg, err := t.conn.RequestMsgWithContext(ctx, &nats.Msg{Subject: t.subject, Header: t.header(call), Data: call.Body})
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, &jobs.Failure{Reason: jobs.ReasonRefused, Err: fmt.Errorf("call %s: nobody listens: %w", t.subject, err)}
	case errors.Is(err, nats.ErrReconnectBufExceeded): // nothing waits for a reconnect
		return nil, &jobs.Failure{Reason: jobs.ReasonRefused, Err: fmt.Errorf("call %s: not connected to NATS", t.subject)}
	case err != nil:
		return nil, t.broken(ctx, err)
	}
	if code := headerOf(msg.Header, micro.ErrorCodeHeader); code != "" {
		return nil, t.errorReply(msg, code)
	}
	if text := headerOf(msg.Header, micro.ErrorHeader); text != "" {
		return nil, t.errorReply(msg, "500")
	}
	return t.decoder.decode(call, msg.Data, headerOf(msg.Header, headerContentType))
}

func (t *natsTransport) broken(ctx context.Context, err error) *jobs.Failure {
	reason := jobs.ReasonReset
	if ctx.Err() != nil || errors.Is(err, nats.ErrTimeout) {
		reason = jobs.ReasonTimeout
	}
	return &jobs.Failure{Reason: reason, Err: fmt.Errorf("call %s: %w", t.subject, err)}
}

// errorReply reads an answer in the manner of micro: a code like those of HTTP, and a text.
func (t *natsTransport) errorReply(msg *nats.Msg, code string) *jobs.Failure {
	n, err := strconv.Atoi(code)
	if err != nil || n < 100 || n > 999 {
		n = 500
	}
	return statusFailure(n, headerOf(msg.Header, micro.ErrorHeader), headerOf(msg.Header, headerRetryAfter), t.decoder.retryMax)
}

func (t *natsTransport) header(call *jobs.Call) nats.Header {
	h := nats.Header{
		headerContentType:    {jobs.MediaBatch},
		"User-Agent":         {"rollcall/" + t.version},
		headerIdempotencyKey: {`"` + call.Key + `"`},
		headerBatch:          {call.BatchID},
		headerPool:           {call.Pool},
	}
	if call.Traceparent != "" {
		// nats.go reads header names case-sensitively, and the specification has it lower case.
		h["traceparent"] = []string{call.Traceparent}
	}
	if len(t.signer.secrets) > 0 {
		timestamp, signature := t.signer.sign(call.Key, time.Now(), call.Body)
		h["webhook-id"], h["webhook-timestamp"], h["webhook-signature"] = []string{call.Key}, []string{timestamp}, []string{signature}
	}
	return h
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
