package jobs

import (
	"strings"
	"time"
	"unicode/utf8"
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

	// ID is what the producer called it: the id of its CloudEvent, else Nats-Msg-Id, else the uid.
	ID string
	// Type is that of the producer's CloudEvent, else the subject.
	Type string
	// EventSubject is the subject of the producer's CloudEvent, else the subject that the job
	// was published to.
	EventSubject string
	// ContentType is the datacontenttype sent to services; empty when the body is empty.
	ContentType string
	// Time is what the producer gave its CloudEvent, in RFC 3339 as it wrote it; empty for one
	// whose time is when the broker took it.
	Time string
	// Attributes are the producer's other CloudEvents attributes: dataschema and extensions.
	Attributes []Attribute
	// Deadline after which the job is expired; zero = none.
	Deadline time.Time
	// Body is the payload: Data, or what a structured CloudEvent holds in its data.
	Body []byte
	// Format says how Body travels.
	Format Format
	// Traceparent and Tracestate are the producer's W3C trace context, empty if none.
	Traceparent, Tracestate string
	// Set names the set that the job is a member of, empty for none; SetSize is how many
	// members it was said to have, 0 if that was not said here.
	Set     string
	SetSize int
	// ReplayOf is the uid of the job from whose dead letter this one was made, empty for none.
	ReplayOf string
	// Services are those that the producer wants the job to go to; nil = all that take it.
	Services []string
	// Route says for each service of the pool whether the job is for it; nil = for all.
	Route []bool
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
// The CloudEvents modes follow the NATS protocol binding on the specification's main branch:
// ce-* headers in binary mode, an application/cloudevents+json body in structured mode.
func Decode(d Delivery, maxAge time.Duration) Job {
	var j Job
	j.Delivery = d
	j.Decode(maxAge)
	return j
}

// Decode is [Decode] of the job's own delivery: all else that the job holds is made of it.
func (j *Job) Decode(maxAge time.Duration) {
	if j.UID == "" {
		j.UID = j.Ref.UID()
	}
	j.ID, j.Type, j.EventSubject, j.Body = j.UID, j.Subject, j.Subject, j.Data
	if maxAge > 0 {
		j.Deadline = j.Published.Add(maxAge)
	}
	if len(j.Header) > 0 {
		j.decodeHeader()
	}
	j.classify()
}

// decodeHeader takes in the headers, and the CloudEvent that the body is by their word.
func (j *Job) decodeHeader() {
	h := readHeaders(j.Header)
	if err := j.readHeader(&h); err != nil {
		j.invalidate(err)
	}
	if isStructured(j.ContentType) {
		j.ContentType = ""
		if err := j.readStructured(); err != nil {
			j.invalidate(err)
		}
	} else if err := j.readBinary(&h); err != nil {
		j.invalidate(err)
	}
}

func (j *Job) invalidate(err error) {
	if j.Verdict == nil {
		j.Verdict = &Verdict{Outcome: Invalid, Reason: err.Error()}
	}
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
		if j.ContentType == "" {
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
