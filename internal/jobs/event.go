package jobs

import (
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// EventType is the CloudEvents type of a completion event.
const EventType = "rollcall.batch.settled.v1"

// detail is how much an event contains; each step is smaller than the one before.
type detail int

const (
	detailAll     detail = iota
	detailNoData         // without the services' data and what is beyond maxKey of a key
	detailNoTexts        // and without ages, reasons and the replies of each service
	detailUIDs           // and without ids and subjects
)

// maxKey is how much of a batch's key an event keeps that has to be cut, in bytes: a key is
// the text of a producer's header, and may be as long as a whole message.
const maxKey = 256

// EncodeEvent sets the outcome and the encoded completion event of s, a CloudEvent in
// structured JSON. Where it would be longer than limit bytes it is cut, data first, and says
// "truncated":true; counts and uids are never cut. limit is the server's max payload less the
// headers. The event is written into the memory of s.Event where that is large enough.
func (s *Settlement) EncodeEvent(limit int) {
	counts := Count(s.Rulings)
	s.Outcome = counts.Outcome()
	d := detailAll
	if s.Truncated {
		d = detailNoData
	}
	for ; ; d++ {
		s.Event = s.appendEvent(slices.Grow(s.Event[:0], s.eventSize()), counts, d)
		if len(s.Event) <= limit || d == detailUIDs {
			return
		}
	}
}

// eventSize estimates the length of the event in full, in bytes.
func (s *Settlement) eventSize() int {
	n := 768 + 192*len(s.Services)
	perService := 0
	for i := range s.Services {
		perService += len(s.Services[i].Name) + 10
	}
	for _, j := range s.Batch.Jobs {
		n += 112 + len(j.ID) + len(j.UID) + len(j.Subject) + perService
	}
	return n
}

func (s *Settlement) appendEvent(b []byte, counts Counts, d detail) []byte {
	batch := s.Batch
	b = append(b, `{"specversion":"1.0","type":"`+EventType+`"`...)
	b = appendField(b, "id", batch.ID)
	b = appendField(b, "source", "/rollcall/"+batch.Pool)
	b = appendField(b, "subject", string(s.Outcome))
	b = appendTime(b, "time", s.SettledAt)
	b = append(b, `,"datacontenttype":"application/json"`...)
	if batch.Traceparent != "" {
		b = appendField(b, "traceparent", batch.Traceparent)
	}
	b = append(b, `,"data":{"batch_id":`...)
	b = appendString(b, batch.ID)
	b = appendField(b, "pool", batch.Pool)
	b = appendField(b, "replica", batch.Replica)
	b = appendField(b, "outcome", string(s.Outcome))
	b = appendField(b, "seal", string(batch.Seal))
	key := batch.Key
	if d > detailAll {
		key = clip(key, maxKey)
	}
	b = appendField(b, "key", key)
	b = appendTime(b, "sealed_at", s.SettledAt.Add(-s.Took))
	b = appendTime(b, "settled_at", s.SettledAt)
	b = appendMillis(b, "duration_ms", s.Took)
	if d > detailAll {
		b = append(b, `,"truncated":true`...)
	}
	b = append(b, `,"counts":`...)
	b = counts.append(b)
	b = append(b, `,"services":[`...)
	for i := range s.Services {
		if i > 0 {
			b = append(b, ',')
		}
		b = s.Services[i].append(b)
	}
	b = append(b, `],"jobs":[`...)
	for i := range batch.Jobs {
		if i > 0 {
			b = append(b, ',')
		}
		b = s.appendEntry(b, i, d, !s.NoData)
	}
	return append(b, `]}}`...)
}

func (c Counts) append(b []byte) []byte {
	b = append(b, `{"total":`...)
	b = strconv.AppendInt(b, int64(c.Total), 10)
	b = appendNumber(b, "succeeded", c.Succeeded)
	b = appendNumber(b, "failed", c.Failed)
	b = appendNumber(b, "expired", c.Expired)
	b = appendNumber(b, "invalid", c.Invalid)
	b = appendNumber(b, "cancelled", c.Cancelled)
	b = appendNumber(b, "retrying", c.Retrying)
	return append(b, '}')
}

func (r *ServiceReport) append(b []byte) []byte {
	b = append(b, `{"name":`...)
	b = appendString(b, r.Name)
	b = append(b, `,"required":`...)
	b = strconv.AppendBool(b, r.Required)
	b = appendNumber(b, "ok", r.OK)
	b = appendNumber(b, "retry", r.Retry)
	b = appendNumber(b, "fail", r.Fail)
	b = appendNumber(b, "tries", r.Tries)
	b = appendMillis(b, "duration_ms", r.Duration.Std())
	b = appendField(b, "error", r.Error)
	return append(b, '}')
}

// AppendEntry appends the i-th entry of the event's jobs in full, a JSON object. In core mode
// it is the reply to the producer.
func (s *Settlement) AppendEntry(b []byte, i int) []byte { return s.appendEntry(b, i, detailAll, true) }

func (s *Settlement) appendEntry(b []byte, i int, d detail, data bool) []byte {
	j, r := s.Batch.Jobs[i], &s.Rulings[i]
	if d < detailUIDs {
		b = append(b, `{"id":`...)
		b = appendString(b, j.ID)
		b = appendField(b, "uid", j.UID)
		b = appendField(b, "subject", j.Subject)
	} else {
		b = append(b, `{"uid":`...)
		b = appendString(b, j.UID)
	}
	b = append(b, `,"outcome":"`...)
	b = append(b, r.Outcome...)
	b = append(b, '"')
	b = appendNumber(b, "attempt", r.Attempt)
	if j.Set != "" && d < detailUIDs {
		b = appendField(b, "set", j.Set)
	}
	if d < detailNoTexts {
		if !j.Published.IsZero() {
			b = appendNumber(b, "age_ms", int(max(s.SettledAt.Sub(j.Published), 0)/time.Millisecond))
		}
		if j.ReplayOf != "" {
			b = appendField(b, "replay_of", j.ReplayOf)
		}
		b = appendField(b, "reason", r.Reason)
		if r.Outcome == Retrying && r.Delay > 0 {
			b = appendTime(b, "retry_at", s.SettledAt.Add(r.Delay))
		}
		b = s.appendStatuses(b, i)
	}
	if data && d < detailNoData {
		b = s.appendData(b, i)
	}
	return append(b, '}')
}

// appendStatuses appends what each service is known to have said for the job, now or earlier.
func (s *Settlement) appendStatuses(b []byte, i int) []byte {
	b = append(b, `,"services":{`...)
	first := true
	for k := range s.Services {
		name, status := s.Services[k].Name, ""
		if a := s.Replies[i][k]; a != nil && a.Status == StatusSkipped {
			continue
		} else if a != nil {
			status = a.Status.String()
		} else if s.Batch.Jobs[i].Record.HasOK(name) {
			status = StatusOK.String()
		} else {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = appendString(b, name)
		b = append(b, `:"`...)
		b = append(b, status...)
		b = append(b, '"')
	}
	return append(b, '}')
}

func (s *Settlement) appendData(b []byte, i int) []byte {
	first := true
	for k := range s.Services {
		a := s.Replies[i][k]
		if a == nil || len(a.Data) == 0 {
			continue
		}
		if first {
			b = append(b, `,"data":{`...)
		} else {
			b = append(b, ',')
		}
		first = false
		b = appendString(b, s.Services[k].Name)
		b = append(b, ':')
		b = append(b, a.Data...)
	}
	if first {
		return b
	}
	return append(b, '}')
}

// EntryWeight bounds what a job adds to an event that was cut as far as ids and subjects
// allow, in bytes. The batcher keeps the sum under a third of the server's max payload.
func EntryWeight(j *Job) int {
	return 96 + len(j.ID) + len(j.UID) + len(j.Subject) + len(j.Set)
}

// Clip shortens a text of unknown origin to at most n bytes of valid UTF-8.
func Clip(s string, n int) string {
	s = clip(s, n)
	if utf8.ValidString(s) {
		return s
	}
	return clip(string([]rune(s)), n) // each byte that is none of UTF-8 became three
}
