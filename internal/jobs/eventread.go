package jobs

import (
	"encoding/json"
	"fmt"
	"time"
)

// Event is a completion event as a reader sees it: the CloudEvent around it and its data.
type Event struct {
	SpecVersion string    `json:"specversion"`
	ID          string    `json:"id"`
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Subject     string    `json:"subject"`
	Time        time.Time `json:"time"`
	Traceparent string    `json:"traceparent,omitempty"`
	Data        EventData `json:"data"`
}

// EventData is the data of a completion event.
type EventData struct {
	BatchID    string          `json:"batch_id"`
	Pool       string          `json:"pool"`
	Replica    string          `json:"replica"`
	Outcome    BatchOutcome    `json:"outcome"`
	Seal       Seal            `json:"seal"`
	Key        string          `json:"key"`
	SealedAt   time.Time       `json:"sealed_at"`
	SettledAt  time.Time       `json:"settled_at"`
	DurationMS float64         `json:"duration_ms"`
	Truncated  bool            `json:"truncated,omitempty"`
	Counts     Counts          `json:"counts"`
	Services   []ServiceReport `json:"services"`
	Jobs       []EventJob      `json:"jobs"`
}

// EventJob is what a completion event says of one job.
type EventJob struct {
	ID      string  `json:"id"`
	UID     string  `json:"uid"`
	Subject string  `json:"subject"`
	Outcome Outcome `json:"outcome"`
	Attempt int     `json:"attempt"`
	Set     string  `json:"set,omitempty"`
	// AgeMS is how long ago the job had been published when its batch was settled, in
	// milliseconds of the broker's clock; missing in an event that was cut.
	AgeMS *int64 `json:"age_ms,omitempty"`
	// ReplayOf is the uid of the job from whose dead letter this one was made.
	ReplayOf string `json:"replay_of,omitempty"`
	Reason   string `json:"reason,omitempty"`
	// RetryAt is when a job that is retrying becomes due again.
	RetryAt  time.Time                  `json:"retry_at,omitzero"`
	Services map[string]string          `json:"services,omitempty"`
	Data     map[string]json.RawMessage `json:"data,omitempty"`
	// Erased entries hold nothing but the uid, the outcome and the attempt.
	Erased bool `json:"erased,omitempty"`
}

// DecodeEvent reads a completion event.
func DecodeEvent(b []byte) (Event, error) {
	var e Event
	if err := json.Unmarshal(b, &e); err != nil {
		return Event{}, fmt.Errorf("decode completion event: %w", err)
	}
	if e.Type != EventType {
		return Event{}, fmt.Errorf("decode completion event: type %q, want %q", Clip(e.Type, 64), EventType)
	}
	return e, nil
}

// Final reports whether the job is done for ever.
func (j *EventJob) Final() bool { return j.Outcome.Final() }
