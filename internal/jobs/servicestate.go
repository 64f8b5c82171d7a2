package jobs

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// Breaker is the state of a service's circuit breaker.
type Breaker string

// Closed: calls pass. Open: calls fail at once. Half-open: a few trial calls pass.
const (
	BreakerClosed   Breaker = "closed"
	BreakerOpen     Breaker = "open"
	BreakerHalfOpen Breaker = "half-open"
)

// Level is the state as a number for metrics: 0 closed, 1 half-open, 2 open.
func (b Breaker) Level() int {
	switch b {
	case BreakerHalfOpen:
		return 1
	case BreakerOpen:
		return 2
	default:
		return 0
	}
}

// ServiceState is the state of a service as one replica sees it.
type ServiceState struct {
	Name string `json:"name"`
	// URL is without its query, which may hold a key.
	URL      string  `json:"url,omitempty"`
	Required bool    `json:"required"`
	Breaker  Breaker `json:"breaker"`
	// RetryIn is how long an open breaker stays open.
	RetryIn Millis `json:"retry_in_ms,omitempty"`
	// InFlight counts calls under way, those that wait for a permit or the next try included.
	InFlight int `json:"in_flight"`
	// Limit is how many requests may be under way at once; with auto the one found so far.
	Limit int `json:"limit"`
	// Pace is the least time between two requests since the service answered 429; 0 = no limit.
	Pace Millis `json:"pace_ms,omitempty"`
	// LastError is the latest failure that came of a request; that a breaker or a limit held
	// calls back is not one.
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
	// Misconfigured says that the breaker is not closed because of a failure that only a person
	// can help: jobs wait, and no job is at fault.
	Misconfigured bool `json:"misconfigured,omitempty"`
	// Skipped counts jobs of committed batches that were not routed to the service, since the replica
	// started.
	Skipped int `json:"skipped,omitempty"`
}

// ServiceReport sums up what one service did for a batch.
type ServiceReport struct {
	Name     string `json:"name"`
	Required bool   `json:"required"`
	OK       int    `json:"ok"`
	Retry    int    `json:"retry"`
	Fail     int    `json:"fail"`
	// Skipped jobs are not routed to the service. They stand in metrics and on the page, not in events.
	Skipped  int    `json:"-"`
	Tries    int    `json:"tries"`
	Duration Millis `json:"duration_ms"`
	Error    string `json:"error"`
}

// Millis is a duration that is written as a number of milliseconds.
type Millis time.Duration

// MarshalJSON implements json.Marshaler.
func (m Millis) MarshalJSON() ([]byte, error) {
	return json.Marshal(float64(time.Duration(m).Microseconds()) / 1000)
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *Millis) UnmarshalJSON(b []byte) error {
	var ms float64
	if err := json.Unmarshal(b, &ms); err != nil {
		return fmt.Errorf("milliseconds: %w", err)
	}
	*m = Millis(math.Round(ms * float64(time.Millisecond)))
	return nil
}

// Std is the duration as the standard library has it.
func (m Millis) Std() time.Duration { return time.Duration(m) }

// String writes it as a [time.Duration].
func (m Millis) String() string { return m.Std().String() }
