package service

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"mime"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

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

// document is a reply in any of the three dialects.
type document struct {
	Results  *[]resultEntry `json:"results"`
	Failures *[]itemEntry   `json:"batchItemFailures"`
	Statuses *[]statusEntry `json:"statuses"`
}

// resultEntry is an entry in Rollcall's own dialect.
type resultEntry struct {
	ID         string          `json:"id"`
	Status     string          `json:"status"`
	Error      string          `json:"error"`
	RetryAfter json.RawMessage `json:"retry_after"`
	Data       json.RawMessage `json:"data"`
}

// itemEntry is an entry in the dialect of SQS batch responses to AWS Lambda.
type itemEntry struct {
	ItemIdentifier string `json:"itemIdentifier"`
}

// statusEntry is an entry in the dialect of Dapr's bulk subscribe.
type statusEntry struct {
	EntryID string `json:"entryId"`
	Status  string `json:"status"`
}

// decode reads the body of a 2xx reply into one reply for each job of the call, or tells why
// the call failed as a whole. The body is not kept.
func (d *decoder) decode(call *jobs.Call, body []byte, contentType string) ([]jobs.Reply, *jobs.Failure) {
	if len(body) > int(d.maxReply) {
		return nil, tooLarge(d.maxReply)
	}
	if body = bytes.TrimSpace(body); len(body) == 0 {
		return d.ok(len(call.Jobs)), nil
	}
	if allOK(call.Jobs, body) {
		return d.ok(len(call.Jobs)), nil
	}
	if !utf8.Valid(body) {
		return nil, unreadable("the reply is not valid UTF-8%s", mediaHint(contentType))
	}
	var doc document
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, unreadable("the reply is not the JSON of a reply%s: %w", mediaHint(contentType), withoutValue(err))
	}
	if err := doc.settleNulls(body); err != nil {
		return nil, unreadable("%w", err)
	}
	sheet := newSheet(call.Jobs)
	var err error
	switch {
	case doc.Results != nil:
		err = sheet.results(*doc.Results, d.retryMax)
	case doc.Failures != nil:
		err = sheet.failures(*doc.Failures)
	default:
		err = sheet.statuses(*doc.Statuses)
	}
	if err != nil {
		return nil, unreadable("%w", err)
	}
	return sheet.replies, nil
}

var errDialect = errors.New("the reply has none of the keys results, batchItemFailures, statuses")

// settleNulls makes sure that exactly one of the dialects is there. A list that is null is an
// empty one: that is how Go and others write a list that nothing was added to.
func (doc *document) settleNulls(body []byte) error {
	n := 0
	for _, there := range []bool{doc.Results != nil, doc.Failures != nil, doc.Statuses != nil} {
		if there {
			n++
		}
	}
	if n > 1 {
		return errors.New("the reply mixes dialects; use one of the keys results, batchItemFailures, statuses")
	}
	if n == 1 {
		return nil
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(body, &keys); err != nil {
		return errDialect
	}
	_, results := keys["results"]
	_, failures := keys["batchItemFailures"]
	_, statuses := keys["statuses"]
	switch {
	case results && !failures && !statuses:
		doc.Results = new([]resultEntry)
	case failures && !results && !statuses:
		doc.Failures = new([]itemEntry)
	case statuses && !results && !failures:
		doc.Statuses = new([]statusEntry)
	default:
		return errDialect
	}
	return nil
}

// sheet is filled in entry by entry.
type sheet struct {
	jobs    []*jobs.Job
	replies []jobs.Reply
	listed  []bool
	index   map[string]int
}

func newSheet(list []*jobs.Job) *sheet {
	return &sheet{jobs: list, replies: make([]jobs.Reply, len(list)), listed: make([]bool, len(list)), index: indexByName(list)}
}

// indexByName maps what a service calls a job to its place in the call: its id, or its uid
// where the id does not tell it from the others.
func indexByName(list []*jobs.Job) map[string]int {
	index := make(map[string]int, len(list))
	shared := make(map[string]bool)
	for _, j := range list {
		if _, taken := index[j.ID]; taken {
			shared[j.ID] = true
		}
		index[j.ID] = 0
	}
	if len(shared) > 0 {
		for _, j := range list {
			// The id of one job may also be the uid of another.
			shared[j.ID] = shared[j.ID] || (j.ID != j.UID && hasUID(list, j.ID))
		}
		clear(index)
	}
	for i, j := range list {
		if shared[j.ID] {
			index[j.UID] = i
		} else {
			index[j.ID] = i
		}
	}
	return index
}

func hasUID(list []*jobs.Job, uid string) bool {
	for _, j := range list {
		if j.UID == uid {
			return true
		}
	}
	return false
}

// place finds the job that the k-th of so many entries is about. An error shows nothing of
// the reply: it ends up in logs and events, and a reply may hold anything.
func (s *sheet) place(k, entries int, name string) (int, error) {
	if entries > len(s.jobs) {
		return 0, fmt.Errorf("the reply lists %d jobs, the call had %d", entries, len(s.jobs))
	}
	i, known := s.index[name]
	if !known {
		return 0, fmt.Errorf("entry %d of the reply names a job that was not in the call%s", k+1, s.hint(name))
	}
	if s.listed[i] {
		return 0, fmt.Errorf("the reply lists a job twice: id %q", jobs.Clip(name, 80))
	}
	s.listed[i] = true
	return i, nil
}

func (s *sheet) hint(name string) string {
	for _, j := range s.jobs {
		if j.ID == name {
			return " (several jobs of the call share this id; answer with their rollcalluid)"
		}
	}
	return ""
}

func (s *sheet) results(entries []resultEntry, retryMax time.Duration) error {
	for k := range entries {
		e := &entries[k]
		i, err := s.place(k, len(entries), e.ID)
		if err != nil {
			return err
		}
		r := &s.replies[i]
		switch e.Status {
		case "ok":
			r.Status = jobs.StatusOK
		case "fail":
			r.Status = jobs.StatusFail
		case "retry":
		default:
			return fmt.Errorf("the reply gives job %q a status other than ok, retry and fail", jobs.Clip(e.ID, 80))
		}
		r.Error = jobs.Clip(e.Error, maxErrorText)
		r.RetryAfter = pause(e.RetryAfter, retryMax)
		r.Data = payload(e.Data)
	}
	return nil
}

func (s *sheet) failures(entries []itemEntry) error {
	for k := range entries {
		if _, err := s.place(k, len(entries), entries[k].ItemIdentifier); err != nil {
			return err
		}
	}
	for i := range s.replies {
		if !s.listed[i] {
			s.replies[i].Status = jobs.StatusOK
		}
	}
	return nil
}

func (s *sheet) statuses(entries []statusEntry) error {
	for k := range entries {
		e := &entries[k]
		i, err := s.place(k, len(entries), e.EntryID)
		if err != nil {
			return err
		}
		switch e.Status {
		case "SUCCESS":
			s.replies[i].Status = jobs.StatusOK
		case "DROP":
			s.replies[i].Status = jobs.StatusFail
		case "RETRY":
		default:
			return fmt.Errorf("the reply gives job %q a status other than SUCCESS, RETRY and DROP", jobs.Clip(e.EntryID, 80))
		}
	}
	return nil
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

// pause reads retry_after: seconds as a number or in a string, or a Go duration. Like a
// Retry-After header that makes no sense, anything else counts as not said.
func pause(raw json.RawMessage, limit time.Duration) time.Duration {
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
		return fmt.Errorf("%s cannot be a %s (at byte %d)", t.Field, firstWord(t.Value), t.Offset)
	}
	return err
}

func firstWord(s string) string {
	word, _, _ := strings.Cut(s, " ")
	return word
}
