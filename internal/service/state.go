package service

import (
	"strings"

	"rollcall/internal/jobs"
)

// State reports the breaker, the load and the last failure.
func (s *Service) State() jobs.ServiceState {
	st := jobs.ServiceState{
		Name: s.name, URL: s.url, Required: s.cfg.Required,
		Breaker:  jobs.Breaker(s.policies.breaker.State().String()),
		RetryIn:  jobs.Millis(s.policies.breaker.RemainingDelay()),
		InFlight: int(s.inFlight.Load()),
		Limit:    s.policies.limit(),
	}
	if f := s.policies.last.Load(); f != nil {
		st.LastError, st.LastErrorAt = f.err.Error(), f.at
		st.Misconfigured = f.err.Misconfigured && !s.policies.breaker.IsClosed()
	}
	st.Pace = jobs.Millis(s.policies.throttle.current())
	return st
}

// withoutQuery returns a URL that can be shown.
func withoutQuery(raw string) string {
	plain, _, _ := strings.Cut(raw, "?")
	return plain
}
