package jobs

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"time"
)

// MediaBatch is the content type of the body of a call: CloudEvents JSON batch format 1.0.2.
const MediaBatch = "application/cloudevents-batch+json"

// MediaEvent marks a CloudEvent in structured mode, as completion events are, and jobs may be:
// CloudEvents JSON format 1.0.2.
const MediaEvent = "application/cloudevents+json"

// AppendCall appends the body of a call for jobs onto b: a JSON array of CloudEvents 1.0. Each
// has id, source, type, subject, time, datacontenttype, data or data_base64, what else the
// producer's event had, and the extensions rollcalluid, rollcallsubject, rollcallattempt,
// rollcalldeadline and rollcallset. Payloads are copied once and never parsed.
func AppendCall(b []byte, jobs []*Job) []byte {
	b = append(b, '[')
	var clocks callClocks
	for i, j := range jobs {
		if i > 0 {
			b = append(b, ',')
		}
		b = j.appendCloudEvent(b, &clocks)
	}
	return append(b, ']')
}

// callOverhead is what an event takes besides its payload, ids, subjects and attributes, in bytes.
const callOverhead = 300

// CallSize estimates the length of AppendCall's result, in bytes.
func CallSize(jobs []*Job) int {
	n := 2
	for _, j := range jobs {
		n += callOverhead + len(j.Body) + len(j.ID) + len(j.Source) + len(j.Type) + len(j.EventSubject) + len(j.Subject) +
			len(j.ContentType) + len(j.Traceparent) + len(j.Tracestate)
		for i := range j.Attributes {
			n += len(j.Attributes[i].Name) + len(j.Attributes[i].Value) + len(`,"":""`)
		}
	}
	return n
}

// callClocks write the times of the jobs of a call.
type callClocks struct{ published, deadline clock }

func (j *Job) appendCloudEvent(b []byte, clocks *callClocks) []byte {
	b = append(b, `{"specversion":"1.0"`...)
	b = appendField(b, "id", j.ID)
	b = appendField(b, "source", j.Source)
	b = appendField(b, "type", j.Type)
	b = appendField(b, "subject", j.EventSubject)
	if j.Time != "" {
		b = appendField(b, "time", j.Time)
	} else {
		b = clocks.published.appendTime(b, "time", j.Published)
	}
	for i := range j.Attributes {
		a := &j.Attributes[i]
		if !a.Literal {
			b = appendField(b, a.Name, a.Value)
			continue
		}
		b = append(append(append(b, `,"`...), a.Name...), `":`...)
		b = append(b, a.Value...)
	}
	b = j.appendAdditions(b, clocks)
	return append(j.appendData(b), '}')
}

// appendAdditions appends the attributes that the producer did not give.
func (j *Job) appendAdditions(b []byte, clocks *callClocks) []byte {
	parent, state := j.addedTrace()
	if parent != "" {
		b = appendField(b, HeaderTraceparent, parent)
	}
	if state != "" {
		b = appendField(b, HeaderTracestate, state)
	}
	b = appendField(b, "rollcalluid", j.UID)
	b = appendField(b, "rollcallsubject", j.Subject)
	b = appendNumber(b, "rollcallattempt", j.Attempt())
	if !j.Deadline.IsZero() {
		b = clocks.deadline.appendTime(b, "rollcalldeadline", j.Deadline)
	}
	if j.Set != "" {
		b = appendField(b, "rollcallset", j.Set)
	}
	return b
}

// addedTrace returns the trace context of the job's headers where its event has none of its own.
func (j *Job) addedTrace() (parent, state string) {
	parent, state = j.Traceparent, j.Tracestate
	for i := range j.Attributes {
		switch j.Attributes[i].Name {
		case HeaderTraceparent:
			return "", ""
		case HeaderTracestate:
			state = ""
		}
	}
	if parent == "" {
		state = ""
	}
	return parent, state
}

// Attempt is the number of the attempt that a call made now belongs to, 1 for the first.
func (j *Job) Attempt() int { return j.Record.Attempts + 1 }

// EachAttribute passes on every attribute of the job's CloudEvent but datacontenttype, with its
// canonical text, for the binary mode of CloudEvents.
func (j *Job) EachAttribute(visit func(name, value string)) {
	visit("specversion", "1.0")
	visit("id", j.ID)
	visit("source", j.Source)
	visit("type", j.Type)
	visit("subject", j.EventSubject)
	at := j.Time
	if at == "" {
		at = j.Published.UTC().Format(time.RFC3339Nano)
	}
	visit("time", at)
	for i := range j.Attributes {
		visit(j.Attributes[i].Name, j.Attributes[i].Value)
	}
	parent, state := j.addedTrace()
	optional := func(name, value string) {
		if value != "" {
			visit(name, value)
		}
	}
	optional(HeaderTraceparent, parent)
	optional(HeaderTracestate, state)
	visit("rollcalluid", j.UID)
	visit("rollcallsubject", j.Subject)
	visit("rollcallattempt", strconv.Itoa(j.Attempt()))
	if !j.Deadline.IsZero() {
		visit("rollcalldeadline", j.Deadline.UTC().Format(time.RFC3339Nano))
	}
	optional("rollcallset", j.Set)
}

func (j *Job) appendData(b []byte) []byte {
	if len(j.Body) == 0 {
		return b
	}
	media := j.ContentType
	if j.Format == FormatText && isJSONMedia(media) {
		media = "text/plain" // as JSON the text would be a string of JSON
	}
	b = append(b, `,"datacontenttype":`...)
	b = appendString(b, media)
	switch j.Format {
	case FormatJSON:
		b = append(b, `,"data":`...)
		return append(b, j.Body...)
	case FormatText:
		b = append(b, `,"data":`...)
		return appendText(b, j.Body)
	default:
		b = append(b, `,"data_base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, j.Body)
		return append(b, '"')
	}
}

// CallKey returns the idempotency key of a call: "<batch id>:<service>", and for a part of
// the batch ":<hash of its uids>" behind it, so that the same key always means the same body.
func CallKey(batch *Batch, service string, part []*Job) string {
	key := batch.ID + ":" + service
	if len(part) == len(batch.Jobs) {
		return key
	}
	const uidLength = 24 // about that of most
	uids := make([]byte, 0, len(part)*uidLength)
	for _, j := range part {
		uids = append(append(uids, j.UID...), '\n')
	}
	sum := sha256.Sum256(uids)
	return key + ":" + hex.EncodeToString(sum[:8])
}

// JobKey returns the idempotency key of a request for one job, "<uid>:<service>": the same at
// every attempt.
func (j *Job) JobKey(service string) string { return j.UID + ":" + service }
