package service

import (
	"context"
	"fmt"
	"net/url"
	"sync/atomic"
	"time"

	"rollcall/internal/jobs"
)

// request is one request to a service: what every try of it sends.
type request struct {
	call *jobs.Call
	// url is where it goes over HTTP, subject over NATS.
	url     *url.URL
	subject string
	// headers are those of _HEADERS, as they stood when the request was made; extra are their values.
	headers []extraHeader
	extra   []string
	// age is how long ago the request pretends to have been signed; 0 but in a conformance check.
	age time.Duration
	// reading counts what may still be reading call.Body.
	reading atomic.Int32
	// answer keeps what the service answered, where somebody wants to know; else it is nil.
	answer *answer
}

// answer is what a service answered to a request, before it was read.
type answer struct {
	// status is that of HTTP or of Nats-Service-Error-Code, 0 if there was no reply.
	status int
	// body is that of an accepted reply, or its beginning where it says nothing. secrets are masked in it.
	body    []byte
	secrets []string
}

func (a *answer) noteStatus(code int) {
	if a != nil {
		a.status = code
	}
}

func (a *answer) noteBody(body []byte) {
	if a != nil {
		a.body = []byte(hide(string(body), a.secrets...))
	}
}

// transport sends requests and reads their replies.
type transport interface {
	// prepare makes the request of a call. The failure is that of the job, final.
	prepare(call *jobs.Call) (*request, *jobs.Failure)
	// send performs one try; cancel ends ctx, which is the try's. What reads call.Body when it returns
	// is counted in r.reading.
	send(ctx context.Context, cancel context.CancelFunc, r *request) ([]jobs.Reply, *jobs.Failure)
	// fits reports whether the call can be sent in one request.
	fits(call *jobs.Call) bool
	close()
}

// fillExtra writes the values of _HEADERS. In the format batch they have no holes.
func (r *request) fillExtra(headers []extraHeader) error {
	if len(headers) == 0 {
		return nil
	}
	var job *jobs.Job
	if len(r.call.Jobs) > 0 {
		job = r.call.Jobs[0]
	}
	r.headers, r.extra = headers, make([]string, len(headers))
	for i := range headers {
		value, err := headers[i].value.fill(job, encodeHeader)
		if err != nil {
			return fmt.Errorf("header %s: %w", headers[i].name, err)
		}
		r.extra[i] = value
	}
	return nil
}

func (r *request) setExtra(f *fields) {
	for i := range r.headers {
		f.set(r.headers[i].name, r.extra[i])
	}
}

// unfilled is the failure of a job that a request cannot be made for.
func unfilled(err error) *jobs.Failure {
	return &jobs.Failure{Reason: jobs.ReasonHole, Final: true, Err: err}
}

// traceOf returns the trace context of a request: that of its call, else that of its jobs, if
// all have the same.
func traceOf(call *jobs.Call) (parent, state string) {
	if call.Traceparent != "" {
		return call.Traceparent, ""
	}
	if len(call.Jobs) == 0 || !isTraceparent(call.Jobs[0].Traceparent) {
		return "", ""
	}
	parent, state = call.Jobs[0].Traceparent, call.Jobs[0].Tracestate
	for _, j := range call.Jobs[1:] {
		if j.Traceparent != parent || j.Tracestate != state {
			return "", ""
		}
	}
	if !jobs.IsHeaderValue(state) {
		state = ""
	}
	return parent, state
}

// isTraceparent reports whether s is a traceparent as W3C Trace Context writes it: what a producer
// gave goes into a header.
func isTraceparent(s string) bool {
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// hide replaces what must not be seen in a text that a service wrote: it may send back what it
// was sent.
func hide(text string, secrets ...string) string { return jobs.Mask(text, jobs.Spellings(secrets)) }
