package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"rollcall/internal/jobs"
)

// unsentError marks what went wrong before a request was sent: no connection, no name, no
// handshake, no descriptor, no connection to NATS.
type unsentError struct{ err error }

func (e *unsentError) Error() string { return e.err.Error() }

func (e *unsentError) Unwrap() error { return e.err }

// unsent reports whether a failed try never reached the service.
func unsent(f *jobs.Failure) bool {
	switch f.Reason {
	case jobs.ReasonRefused, jobs.ReasonDNS, jobs.ReasonTLS, jobs.ReasonOverload, jobs.ReasonToken:
		return true
	default:
		return errors.As(f.Err, new(*unsentError))
	}
}

// burns reports whether a failed try counts as an attempt of its jobs. A try that never reached the
// service does not, nor does a 429, nor a failure that no job can cause.
func burns(f *jobs.Failure) bool {
	return !unsent(f) && !f.Misconfigured && f.Reason != jobs.ReasonThrottled && f.Reason != jobs.ReasonCanceled
}

// broken describes a request to target that ended without a complete reply.
func broken(ctx context.Context, target string, err error) *jobs.Failure {
	if isAlert(err) && !errors.As(err, new(*tlsError)) {
		err = &tlsError{err}
	}
	f := &jobs.Failure{Reason: reasonFor(ctx, err), Err: fmt.Errorf("call %s: %w", target, worded(err))}
	f.Misconfigured = f.Reason == jobs.ReasonTLS || errors.Is(err, errForbidden)
	if f.Reason == jobs.ReasonOverload {
		f.Err = fmt.Errorf("call %s: %w; this process is short of it, the service is not to blame: raise the limit of open files (ulimit -n)", target, err)
	}
	return f
}

// wordedError is an error in words for a person.
type wordedError struct {
	text string
	err  error
}

func (e *wordedError) Error() string { return e.text }

func (e *wordedError) Unwrap() error { return e.err }

// worded says what an error of the network means, without our own port: that would make every reason
// another one.
func worded(err error) error {
	if err == io.EOF { //nolint:errorlint // what wraps one says more
		return &wordedError{"the connection was closed before the reply", err}
	}
	if op, ok := err.(*net.OpError); ok && op.Source != nil { //nolint:errorlint // as above
		return &wordedError{op.Err.Error(), err} // a syscall error names the operation itself
	}
	return err
}

// isShortage reports whether this machine or process lacks what a connection needs.
func isShortage(err error) bool {
	for _, errno := range [...]syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, errno) {
			return true
		}
	}
	// The resolver keeps no more of what went wrong than its text.
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && (strings.Contains(dns.Err, syscall.EMFILE.Error()) || strings.Contains(dns.Err, syscall.ENFILE.Error()))
}

// isAlert reports whether the peer ended a connection by a TLS alert. That is how a client
// certificate is refused with TLS 1.3: when the handshake is over for us, in place of a reply.
func isAlert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error" // as crypto/tls calls it; its type is not exported
}

func reasonFor(ctx context.Context, err error) string {
	if isShortage(err) {
		return jobs.ReasonOverload
	}
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

// unreadable describes a reply that cannot be understood.
func unreadable(format string, args ...any) *jobs.Failure {
	return &jobs.Failure{Reason: jobs.ReasonBadResponse, Err: fmt.Errorf(format, args...)}
}

func tooLarge(limit jobs.Size) *jobs.Failure {
	return &jobs.Failure{Reason: jobs.ReasonTooLarge, Err: fmt.Errorf("the reply is longer than %v (see the _MAX_REPLY variable)", limit)}
}
