package jobs

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"time"
)

// MediaBatch is the content type of the body of a call: CloudEvents JSON batch format 1.0.2.
const MediaBatch = "application/cloudevents-batch+json"

// MediaEvent marks a CloudEvent in structured mode, as completion events are, and jobs may be:
// CloudEvents JSON format 1.0.2.
const MediaEvent = "application/cloudevents+json"

// AppendCall appends the body of a call for jobs onto b: a JSON array of CloudEvents 1.0,
// each with id, source, type, subject, time, datacontenttype, data or data_base64, and the
// extension rollcalluid. Payloads are copied once and never parsed.
func AppendCall(b []byte, jobs []*Job) []byte {
	b = append(b, '[')
	for i, j := range jobs {
		if i > 0 {
			b = append(b, ',')
		}
		b = j.appendCloudEvent(b)
	}
	return append(b, ']')
}

// callOverhead is what an event takes besides its payload, ids and subjects, in bytes.
const callOverhead = 220

// CallSize estimates the length of AppendCall's result, in bytes.
func CallSize(jobs []*Job) int {
	n := 2
	for _, j := range jobs {
		n += callOverhead + len(j.Body) + len(j.ID) + len(j.Type) + len(j.Subject) + len(j.ContentType)
	}
	return n
}

func (j *Job) appendCloudEvent(b []byte) []byte {
	b = append(b, `{"specversion":"1.0","id":`...)
	b = appendString(b, j.ID)
	b = append(b, `,"source":`...)
	b = appendString(b, j.Source)
	b = append(b, `,"type":`...)
	b = appendString(b, j.Type)
	b = append(b, `,"subject":`...)
	b = appendString(b, j.Subject)
	b = append(b, `,"time":"`...)
	b = j.Time.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","rollcalluid":"`...)
	b = append(b, j.UID...)
	b = append(b, '"')
	return append(j.appendData(b), '}')
}

func (j *Job) appendData(b []byte) []byte {
	if len(j.Body) == 0 {
		return b
	}
	b = append(b, `,"datacontenttype":`...)
	b = appendString(b, j.ContentType)
	switch j.Format {
	case FormatJSON:
		b = append(b, `,"data":`...)
		return append(b, j.Body...)
	case FormatText:
		b = append(b, `,"data":`...)
		return appendString(b, string(j.Body))
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
