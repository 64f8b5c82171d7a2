package service

import (
	"net/url"
	"time"
)

// State is what an operator wants to know of a service at one moment.
type State struct {
	Name string `json:"name"`
	// URL is without its query, which may hold a key.
	URL      string `json:"url"`
	Required bool   `json:"required"`
	// Breaker is closed (calls pass), open (calls fail at once) or half-open (probing).
	Breaker string `json:"breaker"`
	// RetryIn is how long an open breaker stays open, in nanoseconds.
	RetryIn time.Duration `json:"retry_in_ns,omitempty"`
	// InFlight counts calls under way, those that wait for a permit or the next try included.
	InFlight int `json:"in_flight"`
	// Limit is how many requests may be under way at once; with auto the one found so far.
	Limit       int       `json:"limit"`
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
}

// State reports the breaker, the load and the last failure.
func (s *Service) State() State {
	st := State{
		Name: s.name, URL: s.url, Required: s.cfg.Required,
		Breaker:  s.policies.breaker.State().String(),
		RetryIn:  s.policies.breaker.RemainingDelay(),
		InFlight: int(s.inFlight.Load()),
		Limit:    s.policies.limit(),
	}
	if f := s.lastFault.Load(); f != nil {
		st.LastError, st.LastErrorAt = f.err.Error(), f.at
	}
	return st
}

// withoutQuery returns a URL that can be shown.
func withoutQuery(u *url.URL) string {
	plain := *u
	plain.RawQuery = ""
	return plain.String()
}
