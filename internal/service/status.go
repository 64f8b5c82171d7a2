package service

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/retry"
)

// Statuses is a list of statuses of HTTP or of Nats-Service-Error-Code, such as 200-299,409.
type Statuses []statusRange

type statusRange struct{ from, to int }

// Bounds of a status.
const (
	minStatus = 200
	maxStatus = 999
)

// UnmarshalText reads numbers and ranges, separated by commas.
func (s *Statuses) UnmarshalText(text []byte) error {
	*s = nil
	for entry := range strings.SplitSeq(string(text), ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(entry), "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err1 != nil || err2 != nil || from < minStatus || to > maxStatus || from > to {
			return fmt.Errorf("%q is no status and no range of them; write 200-299,409", entry)
		}
		*s = append(*s, statusRange{from, to})
	}
	return nil
}

// MarshalText writes what [Statuses.UnmarshalText] reads.
func (s Statuses) MarshalText() ([]byte, error) {
	var b []byte
	for i, r := range s {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(r.from), 10)
		if r.to > r.from {
			b = strconv.AppendInt(append(b, '-'), int64(r.to), 10)
		}
	}
	return b, nil
}

func (s Statuses) has(code int) bool {
	for _, r := range s {
		if r.from <= code && code <= r.to {
			return true
		}
	}
	return false
}

// shares returns a status that is in both lists, 0 if none is.
func (s Statuses) shares(other Statuses) int {
	for _, a := range s {
		for _, b := range other {
			if from := max(a.from, b.from); from <= min(a.to, b.to) {
				return from
			}
		}
	}
	return 0
}

// class is how a status is read.
type class uint8

const (
	// accepted: the reply says the rest.
	accepted class = iota
	// again: a failure that may pass.
	again
	// refused: the jobs are at fault.
	refused
	// notNow: the service asks for fewer calls.
	notNow
	// misconfigured: the service or our settings are set up wrongly. No job is at fault.
	misconfigured
)

// classify reads a status. The lists in the settings go before the usual meaning of a status.
func (r *reading) classify(code int) class {
	switch {
	case r.cfg.OK.has(code):
		return accepted
	case r.cfg.Fail.has(code):
		return refused
	case code == http.StatusTooManyRequests: // also in a list of what may be retried: it is, and gentler
		return notNow
	case r.cfg.Retry.has(code):
		return again
	case code >= 200 && code <= 299:
		return accepted
	case code < 200, code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooEarly:
		return again
	case code < 400, r.accuses(code):
		return misconfigured
	default:
		return refused
	}
}

// accuses reports whether a 4xx speaks of the settings and of no job. In the format batch the
// URL is the same for every job, so one that is not there is nobody's either.
func (r *reading) accuses(code int) bool {
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusProxyAuthRequired:
		return true
	case http.StatusNotFound, http.StatusGone:
		return r.cfg.Format == FormatBatch
	default:
		return false
	}
}

// failure describes a status that is not accepted. said is what the service wrote, made
// printable; after is its Retry-After, read at the time now.
func (r *reading) failure(code int, said, after string, now time.Time) *jobs.Failure {
	v := r.classify(code)
	if v == refused && !r.cfg.Fail.has(code) && r.wantsTLS(code, said) {
		v = misconfigured
	}
	f := &jobs.Failure{
		Code: code, Reason: reasonOf(code), Final: v == refused, Misconfigured: v == misconfigured,
		Free: v == misconfigured || v == notNow, RetryAfter: retry.After(after, now, r.retryMax),
	}
	text := "answered " + strconv.Itoa(code)
	if name := http.StatusText(code); name != "" {
		text += " " + name
	}
	if said != "" {
		text += ": " + said
	}
	f.Err = errors.New(text + r.hint(code, v))
	return f
}

// wantsTLS reports whether a service was called by http:// on a port that speaks TLS, in the words of Go and nginx.
func (r *reading) wantsTLS(code int, said string) bool {
	return r.plain && code == http.StatusBadRequest &&
		(strings.Contains(said, "Client sent an HTTP request to an HTTPS server") || strings.Contains(said, "The plain HTTP request was sent to HTTPS port"))
}

// hint says which settings to look at.
func (r *reading) hint(code int, v class) string {
	switch {
	case v != misconfigured:
		return ""
	case code < 400:
		return " (redirects are never followed: set the final URL in ROLLCALL_SERVICES)"
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return " (check " + Variable(r.name, "TOKEN") + ", _SECRET and _OAUTH_*)"
	case code == http.StatusBadRequest:
		return " (the service speaks TLS there: set its URL in ROLLCALL_SERVICES to https://)"
	default:
		return " (check the URL of " + r.name + " in ROLLCALL_SERVICES, and _FORMAT)"
	}
}

func reasonOf(code int) string {
	switch {
	case code == http.StatusTooManyRequests:
		return jobs.ReasonThrottled
	case code >= 500:
		return jobs.ReasonHTTP5xx
	case code >= 400:
		return jobs.ReasonHTTP4xx
	case code >= 300:
		return jobs.ReasonRedirect
	default:
		return jobs.ReasonBadResponse
	}
}
