package service

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"mime"
	"slices"
	"strconv"
	"strings"
	"time"

	"rollcall/internal/jobs"
)

// maxErrorText is how much of a service's own error text is kept, in bytes.
const maxErrorText = 256

// sharedReplies is how many replies of "all is well" a service keeps ready; a batch holds at
// most 900 jobs.
const sharedReplies = 1024

// decoder reads replies. It keeps no state between them.
type decoder struct {
	maxReply jobs.Size
	retryMax time.Duration
	// allOK is handed out for every call where all is well, and never written to.
	allOK []jobs.Reply
}

func newDecoder(maxReply jobs.Size, retryMax time.Duration) decoder {
	d := decoder{maxReply: maxReply, retryMax: retryMax, allOK: make([]jobs.Reply, sharedReplies)}
	for i := range d.allOK {
		d.allOK[i].Status = jobs.StatusOK
	}
	return d
}

// ok returns n replies that say ok. They are shared and must not be written to.
func (d *decoder) ok(n int) []jobs.Reply {
	if n <= len(d.allOK) {
		return d.allOK[:n:n]
	}
	replies := make([]jobs.Reply, n)
	for i := range replies {
		replies[i].Status = jobs.StatusOK
	}
	return replies
}

// byteOrderMark may stand before JSON that .NET and PowerShell write.
var byteOrderMark = []byte("\ufeff")

// decode reads the body of a 2xx reply into one reply for each job of the call, or says why
// the call failed as a whole. The body is not kept.
//
// Empty, and JSON with none of the keys of the dialects, mean that all is well: a service may
// have a reply of its own for callers of its own.
func (d *decoder) decode(call *jobs.Call, body []byte, contentType string, known secrets) ([]jobs.Reply, *jobs.Failure) {
	if len(body) > int(d.maxReply) {
		return nil, tooLarge(d.maxReply)
	}
	body = bytes.TrimSpace(bytes.TrimPrefix(body, byteOrderMark))
	if len(body) == 0 || allOK(call.Jobs, body) {
		return d.ok(len(call.Jobs)), nil
	}
	if !jobs.ValidJSON(body) {
		return d.decodeInvalid(call, body, contentType)
	}
	dialect, entries, err := findDialect(body)
	switch {
	case err != nil:
		return nil, unreadable("%w", err)
	case dialect == "":
		return d.ok(len(call.Jobs)), nil
	}
	sheet := newSheet(call.Jobs, d.retryMax, known)
	if err := sheet.fill(dialect, entries); err != nil {
		return nil, unreadable("%w", err)
	}
	return sheet.replies, nil
}

// decodeInvalid decides on a body that is no JSON in UTF-8. One that is JSON but for the
// encoding of its strings is fine if it cannot be in a dialect.
func (d *decoder) decodeInvalid(call *jobs.Call, body []byte, contentType string) ([]jobs.Reply, *jobs.Failure) {
	if !json.Valid(body) {
		return nil, unreadable("the reply is cut off or no JSON%s: %w", mediaHint(contentType), json.Unmarshal(body, new(json.RawMessage)))
	}
	for _, key := range dialects {
		if bytes.Contains(body, []byte(key)) {
			return nil, unreadable("the reply is not valid UTF-8%s", mediaHint(contentType))
		}
	}
	return d.ok(len(call.Jobs)), nil
}

// The keys that mark the three dialects: Rollcall's own, SQS batch responses to AWS Lambda, and
// Dapr's bulk subscribe.
const (
	dialectResults  = "results"
	dialectFailures = "batchItemFailures"
	dialectStatuses = "statuses"
)

// dialects are the keys by which they are known.
var dialects = [...]string{dialectResults, dialectFailures, dialectStatuses}

// findDialect returns the key of the dialect that a reply is in, and the list behind it; both
// empty for a reply in none. A list that is null is an empty one: that is how Go and others write
// a list that nothing was added to.
func findDialect(body []byte) (dialect string, entries []byte, err error) {
	if body[0] != '{' {
		return "", nil, nil
	}
	jobs.EachMember(body, func(quoted, value []byte) bool {
		i := slices.IndexFunc(dialects[:], func(key string) bool { return jobs.SameName(quoted, key) })
		if i < 0 {
			return true
		}
		if dialect != "" {
			err = errors.New("the reply mixes dialects; use one of the keys results, batchItemFailures, statuses, once")
			return false
		}
		dialect, entries = dialects[i], value
		return true
	})
	switch {
	case err != nil || dialect == "":
		return "", nil, err
	case entries[0] == 'n':
		return dialect, []byte("[]"), nil
	case entries[0] != '[':
		return "", nil, fmt.Errorf("%s cannot be %s", dialect, withArticle(kindOf(entries[0])))
	}
	return dialect, entries, nil
}

// kindOf names the kind of a JSON value by its first byte.
func kindOf(first byte) string {
	switch first {
	case '"':
		return "string"
	case '{':
		return "object"
	case 't', 'f':
		return "boolean"
	default:
		return "number"
	}
}

// resultEntry is an entry in Rollcall's own dialect.
type resultEntry struct {
	ID         name            `json:"id"`
	Status     string          `json:"status"`
	Error      string          `json:"error"`
	RetryAfter json.RawMessage `json:"retry_after"`
	Data       json.RawMessage `json:"data"`
}

func (e *resultEntry) plain(entry []byte) bool {
	return plainEntry(entry, plainField{`"id"`, (*string)(&e.ID), nil}, plainField{`"status"`, &e.Status, nil},
		plainField{`"data"`, nil, &e.Data}, plainField{`"error"`, &e.Error, nil}, plainField{`"retry_after"`, nil, &e.RetryAfter})
}

// itemEntry is an entry in the dialect of SQS.
type itemEntry struct {
	ItemIdentifier name `json:"itemIdentifier"`
}

func (e *itemEntry) plain(entry []byte) bool {
	return plainEntry(entry, plainField{`"itemIdentifier"`, (*string)(&e.ItemIdentifier), nil})
}

// statusEntry is an entry in the dialect of Dapr.
type statusEntry struct {
	EntryID name   `json:"entryId"`
	Status  string `json:"status"`
}

func (e *statusEntry) plain(entry []byte) bool {
	return plainEntry(entry, plainField{`"entryId"`, (*string)(&e.EntryID), nil}, plainField{`"status"`, &e.Status, nil})
}

// name is what a reply calls a job. A number stands for the text that it is written as.
type name string

// UnmarshalJSON reads a string or a number.
func (n *name) UnmarshalJSON(value []byte) error {
	switch c := value[0]; {
	case c == '"':
		return json.Unmarshal(value, (*string)(n))
	case c == '-' || c >= '0' && c <= '9':
		*n = name(value)
		return nil
	default:
		return errors.New("an id is a string or a number")
	}
}

// payload returns the data of an entry on one line, nil for none: completion events are read
// line by line.
func payload(data json.RawMessage) json.RawMessage {
	if len(data) == 0 || string(data) == "null" {
		return nil
	}
	if bytes.IndexByte(data, '\n') < 0 && bytes.IndexByte(data, '\r') < 0 {
		return data
	}
	var line bytes.Buffer
	if err := json.Compact(&line, data); err != nil {
		return nil
	}
	return line.Bytes()
}

// replyRetryAfter reads retry_after: seconds as a number or in a string, or a Go duration. Like a
// Retry-After header that makes no sense, anything else counts as not said.
func replyRetryAfter(raw json.RawMessage, limit time.Duration) time.Duration {
	if len(raw) == 0 {
		return 0
	}
	text := string(raw)
	if raw[0] == '"' {
		if err := json.Unmarshal(raw, &text); err != nil {
			return 0
		}
		if d, err := time.ParseDuration(text); err == nil {
			return min(max(d, 0), limit)
		}
	}
	seconds, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || math.IsNaN(seconds) || seconds <= 0 {
		return 0
	}
	if seconds >= limit.Seconds() {
		return limit
	}
	return time.Duration(seconds * float64(time.Second))
}

// mediaHint names the content type in an error where it explains the trouble.
func mediaHint(contentType string) string {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil || strings.HasSuffix(media, "json") {
		return ""
	}
	return " (it came as " + jobs.Clip(media, 80) + ")"
}

// withoutValue keeps what a service wrote out of an error about it.
func withoutValue(err error) error {
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := t.Field
		if field == "" {
			field = "an entry"
		}
		return fmt.Errorf("%s cannot be %s", field, withArticle(firstWord(t.Value)))
	}
	return err
}

// withArticle puts a or an before a kind of JSON value.
func withArticle(kind string) string {
	if strings.HasPrefix(kind, "o") || strings.HasPrefix(kind, "a") {
		return "an " + kind
	}
	return "a " + kind
}

func firstWord(s string) string {
	word, _, _ := strings.Cut(s, " ")
	return word
}
