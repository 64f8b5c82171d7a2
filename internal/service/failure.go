package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"

	"rollcall/internal/jobs"
)

// misconfigured reports whether a try could not even be sent because of something only a
// person can mend: certificates, or an address that is never called. It is not repeated,
// does not trip the breaker and burns no attempt, so that no job dies of a wrong CA file.
func misconfigured(f *jobs.Failure) bool {
	return f.Reason == jobs.ReasonTLS || errors.Is(f.Err, errForbidden)
}

// burns reports whether a failed try counts as an attempt of its jobs. What never reached the
// service does not, nor does "not now".
func burns(f *jobs.Failure) bool {
	switch f.Reason {
	case jobs.ReasonRefused, jobs.ReasonDNS, jobs.ReasonTLS, jobs.ReasonThrottled, jobs.ReasonCanceled:
		return false
	default:
		return true
	}
}

// broken describes a request to target that ended without a complete reply.
func broken(ctx context.Context, target string, err error) *jobs.Failure {
	if isAlert(err) {
		err = &tlsError{err}
	}
	return &jobs.Failure{Reason: reasonFor(ctx, err), Err: fmt.Errorf("call %s: %w", target, err)}
}

// isAlert reports whether the peer ended a connection by a TLS alert. That is how a client
// certificate is refused with TLS 1.3: when the handshake is over for us, in place of a reply.
func isAlert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error" // as crypto/tls calls it; its type is not exported
}

func reasonFor(ctx context.Context, err error) string {
	if _, ok := errors.AsType[*tlsError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return jobs.ReasonTLS
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok && !dns.IsTimeout {
		return jobs.ReasonDNS
	}
	timeout, ok := errors.AsType[net.Error](err)
	switch {
	case ctx.Err() != nil, ok && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return jobs.ReasonTimeout
	case errors.Is(err, errForbidden), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return jobs.ReasonRefused
	case isNetwork(err):
		return jobs.ReasonReset
	default:
		return jobs.ReasonBadResponse
	}
}

// statusFailure reads a status that is not 2xx, of HTTP or from Nats-Service-Error-Code. said
// is the service's own short text, empty if none.
func statusFailure(code int, said, after string, retryMax time.Duration) *jobs.Failure {
	f := &jobs.Failure{Code: code, RetryAfter: retryAfter(after, time.Now(), retryMax)}
	switch {
	case code == http.StatusTooManyRequests:
		f.Reason = jobs.ReasonThrottled
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly:
		f.Reason = jobs.ReasonHTTP4xx
	case code >= 500:
		f.Reason = jobs.ReasonHTTP5xx
	case code >= 400:
		f.Reason, f.Final = jobs.ReasonHTTP4xx, true
	case code >= 300:
		f.Reason, f.Final = jobs.ReasonRedirect, true
	default:
		f.Reason = jobs.ReasonBadResponse
	}
	text := http.StatusText(code)
	if said != "" {
		text = jobs.Clip(said, maxErrorText)
	}
	f.Err = fmt.Errorf("answered %d %s", code, text)
	if f.Reason == jobs.ReasonRedirect {
		f.Err = fmt.Errorf("answered %d %s; redirects are never followed: set the final URL in ROLLCALL_SERVICES", code, text)
	}
	return f
}

// unreadable describes a reply that cannot be understood.
func unreadable(format string, args ...any) *jobs.Failure {
	return &jobs.Failure{Reason: jobs.ReasonBadResponse, Err: fmt.Errorf(format, args...)}
}

func tooLarge(limit jobs.Size) *jobs.Failure {
	return &jobs.Failure{Reason: jobs.ReasonTooLarge, Err: fmt.Errorf("the reply is longer than %v (see the _MAX_REPLY variable)", limit)}
}
