package service

import (
	"context"
	"net/http"
	"time"

	"rollcall/internal/jobs"
)

// Header names, in the spelling of [http.CanonicalHeaderKey].
const (
	headerContentType    = "Content-Type"
	headerRetryAfter     = "Retry-After"
	headerAuthorization  = "Authorization"
	headerIdempotencyKey = "Idempotency-Key"
	headerBatch          = "Rollcall-Batch"
	headerPool           = "Rollcall-Pool"
	headerUID            = "Rollcall-Uid"
	headerAttempt        = "Rollcall-Attempt"
	headerDeadline       = "Rollcall-Deadline"
	headerTraceparent    = "Traceparent"
	headerTracestate     = "Tracestate"
	headerWebhookID      = "Webhook-Id"
	headerWebhookTime    = "Webhook-Timestamp"
	headerWebhookSign    = "Webhook-Signature"
)

// lowerIdempotencyKey is how the key is sent by HTTP, where case does not matter. Under the
// canonical name net/http takes it for leave to send a body again, uncounted, on every
// connection that it keeps, when the service breaks on it (Request.isReplayable). Repeating is
// for the retry policy.
const lowerIdempotencyKey = "idempotency-key"

// spelledForHTTP returns a name of _HEADERS as it is sent by HTTP: net/http repeats requests with an X-Idempotency-Key
// too.
func spelledForHTTP(name string) string {
	if name == "X-Idempotency-Key" {
		return "x-idempotency-key"
	}
	return name
}

// heads makes the headers of requests over HTTP.
type heads struct {
	cfg   *Config
	fixed http.Header
	sign  *watched[signer]
	token *watched[string]
	oauth *oauth // nil where there is none
}

func newHeads(name string, cfg *Config, deps Deps) (h heads, err error) {
	h.cfg = cfg
	h.fixed = http.Header{"Accept": {"*/*"}, "User-Agent": {"rollcall/" + deps.Version}}
	if cfg.Format == FormatBatch {
		h.fixed.Set("Accept", "application/json")
		h.fixed.Set(headerContentType, jobs.MediaBatch)
	}
	if cfg.readsBody() { // nobody is asked to compress what nobody reads
		h.fixed.Set("Accept-Encoding", acceptEncoding)
	}
	if h.sign, err = newWatched(Variable(name, "SECRET"), cfg.Secret, deps.Log, parseSecrets); err != nil {
		return h, err
	}
	if h.token, err = newWatched(Variable(name, "TOKEN"), cfg.Token, deps.Log, parseToken); err != nil {
		return h, err
	}
	h.oauth, err = newOAuth(name, cfg, deps)
	return h, err
}

// authorization returns the value of the Authorization header, empty for none.
func (h *heads) authorization(ctx context.Context) (string, *jobs.Failure) {
	if h.oauth != nil {
		return h.oauth.header(ctx)
	}
	if token := h.token.get(); token != "" {
		return "Bearer " + token, nil
	}
	return "", nil
}

// renew gives up an Authorization that was refused. It reports whether there is another one to be had.
func (h *heads) renew(auth string) bool {
	if h.oauth == nil {
		return false
	}
	h.oauth.forget(auth)
	return true
}

// secrets returns what must not be seen of a request.
func (h *heads) secrets(r *request, auth string) []string {
	all := append([]string(nil), r.extra...)
	if _, token, found := cutScheme(auth); found {
		all = append(all, token)
	}
	return all
}

// of returns the headers of one try.
func (h *heads) of(r *request, auth string) http.Header {
	call := r.call
	f := newFields()
	f.set(headerAuthorization, auth)
	f.set(lowerIdempotencyKey, `"`+call.Key+`"`)
	f.set(headerBatch, call.BatchID)
	f.set(headerPool, call.Pool)
	parent, state := traceOf(call)
	f.set(headerTraceparent, parent)
	f.set(headerTracestate, state)
	if len(call.Jobs) == 1 {
		f.ofJob(call.Jobs[0])
	}
	if h.cfg.Format != FormatBatch {
		h.ofBody(call, f)
	}
	if s := h.sign.get(); len(s.secrets) > 0 {
		timestamp, signature := s.sign(call.Key, time.Now().Add(-r.age), h.cfg.bodyOf(call))
		f.set(headerWebhookID, call.Key)
		f.set(headerWebhookTime, timestamp)
		f.set(headerWebhookSign, signature)
	}
	for i := range r.headers {
		f.set(spelledForHTTP(r.headers[i].name), r.extra[i])
	}
	return f.over(h.fixed)
}

// ofBody sets what a request for one job says of its body, and in the format event of its
// CloudEvent: the binary mode of the HTTP binding 1.0.2.
func (h *heads) ofBody(call *jobs.Call, f *fields) {
	if len(call.Body) > 0 && h.cfg.sendsBody() {
		f.set(headerContentType, mediaType(call.Jobs[0]))
	}
	if h.cfg.Format == FormatEvent {
		call.Jobs[0].EachAttribute(func(name, value string) {
			f.set(http.CanonicalHeaderKey("ce-"+name), encodeAttribute(value))
		})
	}
}
