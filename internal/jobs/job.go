package jobs

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Headers a producer may set. They are read case-insensitively: nats.go keeps the spelling
// of the producer, and Java and Python clients write their own.
const (
	HeaderMsgID       = "Nats-Msg-Id"
	HeaderDeadline    = "Rollcall-Deadline"
	HeaderTraceparent = "traceparent"
	HeaderContentType = "Content-Type"
)

// Format is how a job's body travels in the JSON sent to services.
type Format uint8

// A body is sent as a JSON value, as a JSON string, or in base64; byte for byte each time.
const (
	FormatJSON Format = iota
	FormatText
	FormatBase64
)

// Job is one message that a producer published, decoded as far as Rollcall needs it. The
// body stays the bytes that arrived.
type Job struct {
	Delivery

	// ID is what the producer called it: Nats-Msg-Id, else ce-id, else the uid.
	ID string
	// Type is the ce-type, else the subject.
	Type string
	// ContentType is the datacontenttype sent to services; empty when the body is empty.
	ContentType string
	// Time the producer gave (ce-time), else the broker's time stamp.
	Time time.Time
	// Deadline after which the job is expired; zero = none.
	Deadline time.Time
	// Body is the payload: Data, or what a structured CloudEvent holds in its data.
	Body []byte
	// Format says how Body travels.
	Format Format
	// Traceparent is the producer's W3C trace context, empty if none.
	Traceparent string
	// Record is what the ledger knew of the job when it was handed over.
	Record Record
	// Verdict is set when the outcome is known before any call.
	Verdict *Verdict
}

// Verdict ends a job without calling any service.
type Verdict struct {
	Outcome Outcome
	Reason  string
}

// Decode reads a delivery. maxAge is the longest a job may wait from its publication, 0 for
// no limit. It never fails: a delivery that cannot be decoded becomes a job with a verdict
// of [Invalid], so that it ends with an outcome and a dead letter like every other.
//
// The CloudEvents modes follow the NATS protocol binding 1.0.2: ce-* headers in binary
// mode, an application/cloudevents+json body in structured mode.
func Decode(d Delivery, maxAge time.Duration) Job {
	j := Job{Delivery: d, Time: d.Published}
	if j.UID == "" {
		j.UID = d.Ref.UID()
	}
	j.ID, j.Type, j.Body = j.UID, d.Subject, d.Data
	if maxAge > 0 {
		j.Deadline = d.Published.Add(maxAge)
	}
	if err := j.readHeader(); err != nil {
		j.invalidate(err)
	}
	if isStructured(j.ContentType) {
		j.ContentType = ""
		if err := j.readStructured(); err != nil {
			j.invalidate(err)
		}
	}
	j.classify()
	return j
}

func isStructured(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(media), MediaEvent)
}

func (j *Job) invalidate(err error) {
	if j.Verdict == nil {
		j.Verdict = &Verdict{Outcome: Invalid, Reason: err.Error()}
	}
}

// readHeader takes what Rollcall understands out of the headers, in one pass over them.
func (j *Job) readHeader() error {
	var msgID, ceID string
	var faults []error
	for name, values := range j.Header {
		if len(values) == 0 {
			continue
		}
		v := values[0]
		switch {
		case strings.EqualFold(name, HeaderMsgID):
			msgID = v
		case strings.EqualFold(name, "ce-id"):
			ceID = v
		case strings.EqualFold(name, "ce-type") && v != "":
			j.Type = v
		case strings.EqualFold(name, "ce-time"):
			if t, err := time.Parse(time.RFC3339Nano, v); err == nil {
				j.Time = t
			}
		case strings.EqualFold(name, HeaderContentType):
			j.ContentType = v
		case strings.EqualFold(name, HeaderTraceparent), strings.EqualFold(name, "ce-traceparent") && j.Traceparent == "":
			j.Traceparent = v
		case strings.EqualFold(name, HeaderDeadline):
			t, err := time.Parse(time.RFC3339Nano, v)
			if err != nil {
				faults = append(faults, fmt.Errorf("header %s %q is not RFC 3339, for example 2026-01-31T12:00:00Z", HeaderDeadline, clip(v, 64)))
				continue
			}
			if j.Deadline.IsZero() || t.Before(j.Deadline) {
				j.Deadline = t
			}
		}
	}
	if err := j.name(msgID, ceID); err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// name chooses the id among what the producer said. An id that is not UTF-8 could not be
// written to JSON and matched again, so the uid stands in for it.
func (j *Job) name(candidates ...string) error {
	for _, id := range candidates {
		if id == "" {
			continue
		}
		if !utf8.ValidString(id) {
			return errors.New("the job id is not valid UTF-8")
		}
		j.ID = id
		return nil
	}
	return nil
}

// structured is a CloudEvent in JSON, as far as it is needed. Names are those of the
// CloudEvents JSON format 1.0.2.
type structured struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Time            string          `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	Traceparent     string          `json:"traceparent"`
	Data            json.RawMessage `json:"data"`
	DataBase64      *[]byte         `json:"data_base64"`
}

func (j *Job) readStructured() error {
	var ce structured
	if !utf8.Valid(j.Data) {
		return errors.New("the structured CloudEvent is not valid UTF-8")
	}
	if err := json.Unmarshal(j.Data, &ce); err != nil {
		return fmt.Errorf("the body is not a structured CloudEvent: %w", err)
	}
	if ce.SpecVersion == "" || ce.ID == "" || ce.Source == "" || ce.Type == "" {
		return errors.New("the structured CloudEvent lacks one of specversion, id, source, type")
	}
	if !strings.HasPrefix(ce.SpecVersion, "1.") {
		return fmt.Errorf("CloudEvents specversion %q is not understood; send 1.0", clip(ce.SpecVersion, 16))
	}
	if ce.Data != nil && ce.DataBase64 != nil {
		return errors.New("the structured CloudEvent has both data and data_base64")
	}
	if j.ID == j.UID {
		j.ID = ce.ID
	}
	j.Type, j.ContentType = ce.Type, ce.DataContentType
	if t, err := time.Parse(time.RFC3339Nano, ce.Time); err == nil {
		j.Time = t
	}
	if j.Traceparent == "" {
		j.Traceparent = ce.Traceparent
	}
	return j.readStructuredData(ce)
}

func (j *Job) readStructuredData(ce structured) error {
	switch {
	case ce.DataBase64 != nil:
		j.Body = *ce.DataBase64
	case len(ce.Data) > 0 && ce.Data[0] == '"' && ce.DataContentType != "" && !isJSONMedia(ce.DataContentType):
		// Text travels as a JSON string when the content type says that it is not JSON.
		var text string
		if err := json.Unmarshal(ce.Data, &text); err != nil {
			return fmt.Errorf("the data of the structured CloudEvent: %w", err)
		}
		j.Body = []byte(text)
	default:
		j.Body = ce.Data
	}
	return nil
}

// classify chooses how the body travels. JSON is only taken for JSON where the content type
// does not say otherwise, as the CloudEvents JSON format (section 3.1) asks.
func (j *Job) classify() {
	switch {
	case len(j.Body) == 0:
		return
	case (j.ContentType == "" || isJSONMedia(j.ContentType)) && ValidJSON(j.Body):
		j.Format = FormatJSON
		if j.ContentType == "" {
			j.ContentType = "application/json"
		}
	case utf8.Valid(j.Body):
		j.Format = FormatText
		if j.ContentType == "" || isJSONMedia(j.ContentType) {
			j.ContentType = "text/plain"
		}
	default:
		j.Format = FormatBase64
		if j.ContentType == "" {
			j.ContentType = "application/octet-stream"
		}
	}
}

// isJSONMedia reports whether a media type declares JSON: */json or a +json suffix.
func isJSONMedia(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.TrimSpace(media)
	return hasSuffixFold(media, "/json") || hasSuffixFold(media, "+json")
}

func hasSuffixFold(s, suffix string) bool {
	return len(s) >= len(suffix) && strings.EqualFold(s[len(s)-len(suffix):], suffix)
}

// clip shortens s to at most n bytes without cutting a character in two.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
