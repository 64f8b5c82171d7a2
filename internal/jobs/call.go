package jobs

import (
	"encoding/json"
	"fmt"
	"time"
)

// Status is what a service said about one job.
type Status uint8

// The three replies of a service. The zero value is StatusRetry on purpose: a job that nobody
// answered for is tried again, never lost and never taken for done.
const (
	StatusRetry Status = iota
	StatusOK
	StatusFail
	// StatusSkipped is no reply: the job is not routed to the service.
	StatusSkipped
)

// String returns the word used in replies and events.
func (s Status) String() string {
	switch s {
	case StatusOK:
		return "ok"
	case StatusFail:
		return "fail"
	case StatusSkipped:
		return "skipped"
	default:
		return "retry"
	}
}

// Reply is what a service said about one job.
type Reply struct {
	Status Status
	// Error is the service's own text, cut to a bounded length by the decoder.
	Error string
	// RetryAfter is how long the service asks to wait before the next attempt; 0 = not said.
	RetryAfter time.Duration
	// Data is carried into the completion event. Valid JSON or nil.
	Data json.RawMessage
	// Unsent says that of a call in several requests the one with this job never left the
	// process: that burns no attempt of the job.
	Unsent bool
	// Free says that the reply burns no attempt of the job: only its age bounds how often that
	// may happen.
	Free bool
	// Alone says that the reply cannot be distinguished from that of another job in the call, because
	// both have one id: the job must come back in a call of its own.
	Alone bool
	// Group is how many jobs the next call for this one may hold, where the whole call failed
	// and one of its jobs may have caused that; 0 = any number.
	Group int
}

// Call is one request to one service for one batch, or for a part of it.
type Call struct {
	BatchID string
	Pool    string
	Service string
	// Key is the idempotency key. The same key always means the same body.
	Key string
	// Jobs are the jobs called for, in the order of Body.
	Jobs []*Job
	// Body is a JSON array of CloudEvents 1.0, nil for a service that is called for each job
	// alone. It may be shared by several calls and must never be written to.
	Body []byte
	// Traceparent is the W3C trace context to send, empty for none.
	Traceparent string
}

// CallResult is what came of a call.
type CallResult struct {
	// Replies has one entry for each of Call.Jobs. It is nil exactly when Failure is set.
	Replies []Reply
	// Failure is set when the call failed as a whole.
	Failure *Failure
	// Tries counts requests that left this process. 0 means that a breaker or limit refused
	// the call before anything was sent: that burns no attempt.
	Tries int
	// Repeats counts the tries among them that were not the first of their request: a service
	// that takes one job per request gets many requests in one call.
	Repeats  int
	Duration time.Duration
	// BodyRead says that nothing reads Call.Body any more, so that its memory may be used again: a
	// call that was cut short may leave a reader behind.
	BodyRead bool
}

// Reason classes of a failed call, in the words of the metrics' outcome label.
const (
	ReasonTimeout     = "timeout"
	ReasonRefused     = "refused"
	ReasonReset       = "reset"
	ReasonDNS         = "dns"
	ReasonTLS         = "tls"
	ReasonHTTP4xx     = "http_4xx"
	ReasonHTTP5xx     = "http_5xx"
	ReasonThrottled   = "throttled"
	ReasonRedirect    = "redirect"
	ReasonTooLarge    = "too_large"
	ReasonBadResponse = "bad_response"
	ReasonBreakerOpen = "breaker_open"
	ReasonOverload    = "overload"
	ReasonCanceled    = "canceled"
	ReasonHole        = "hole"
	ReasonToken       = "token"
	ReasonPanic       = "panic"
	ReasonOther       = "error"
)

// Failure says why a whole call failed. Whether it may be retried is decided where it is
// born and read nowhere else.
type Failure struct {
	// Reason is one of the Reason constants.
	Reason string
	// Final means that trying again cannot help.
	Final bool
	// Code is the HTTP status or Nats-Service-Error-Code, 0 if none was received.
	Code int
	// RetryAfter is how long the service asks to wait, already capped; 0 = not said.
	RetryAfter time.Duration
	// Free says that the failure burns no attempt of the jobs: no connection could be made, the
	// service said "not now" (429), it is set up wrongly, or its breaker was not closed.
	Free bool
	// Misconfigured says that only a person can help: the service or its settings are set up
	// wrongly, and no job is at fault. The jobs wait.
	Misconfigured bool
	// Err says to a person what happened; it may quote 200 bytes of what the service wrote, and
	// never holds a secret.
	Err error
}

// Error implements error.
func (f *Failure) Error() string { return fmt.Sprintf("%s: %v", f.Reason, f.Err) }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// Suspicious reports whether one of the call's jobs may have caused the failure: the service was
// reached, and what came back says nothing of the single jobs.
func (f *Failure) Suspicious() bool {
	switch f.Reason {
	case ReasonHTTP5xx, ReasonTimeout, ReasonReset, ReasonBadResponse, ReasonTooLarge, ReasonPanic, ReasonOther:
		return true
	case ReasonHTTP4xx, ReasonRedirect: // one that the settings call retryable, or a time-out that the service noticed
		return !f.Final && !f.Free
	default:
		return false
	}
}

// NextGroup returns how many jobs the next call may hold for each of the n of the failed call; 0 = any
// number.
func (f *Failure) NextGroup(n int) int {
	if !f.Suspicious() {
		return 0
	}
	return max(n/2, 1)
}
