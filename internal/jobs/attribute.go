package jobs

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// maxAttributes bounds what a job may carry beyond the attributes that every event has.
const maxAttributes = 128

// Attribute is a CloudEvents attribute on its way from the producer to the services.
type Attribute struct {
	Name string
	// Value is the canonical text of the value.
	Value string
	// Literal means that the JSON format writes the value without quotes: a boolean, or an
	// integer of at most 32 bits, the only number that CloudEvents knows.
	Literal bool
}

var errAttributes = fmt.Errorf("the CloudEvent has more than %d attributes of its own", maxAttributes)

func isStructured(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.TrimSpace(media)
	return strings.EqualFold(media, MediaEvent) || strings.EqualFold(media, "application/cloudevents")
}

// readBinary takes in the ce-* headers. The error is the first fault.
func (j *Job) readBinary(h *headers) (fault error) {
	if h.tooMany {
		fault = errAttributes
	}
	slices.SortFunc(h.attributes, func(a, b attributeHeader) int { return strings.Compare(a.attribute, b.attribute) })
	for i := range h.attributes {
		a := &h.attributes[i]
		value, err := decodeHeader(a.value)
		if err != nil {
			err = fmt.Errorf("header %s: %w", clip(a.name, 64), err)
		} else {
			err = j.attribute(Attribute{Name: a.attribute, Value: value})
		}
		if fault == nil {
			fault = err
		}
	}
	return fault
}

// attribute takes over one attribute of the producer's CloudEvent; an empty one is none.
func (j *Job) attribute(a Attribute) error {
	if a.Value == "" {
		return nil
	}
	switch a.Name {
	case "id":
		return j.name(a.Value)
	case "source":
		j.Source = a.Value
	case "type":
		j.Type = a.Value
	case "subject":
		j.EventSubject = a.Value
	case "time":
		j.readTime(a.Value)
	case "datacontenttype":
		j.ContentType = a.Value
	case "traceparent":
		j.traceContext(a)
	case "specversion", "data", "database64", "rollcalluid", "rollcallsubject", "rollcallattempt", "rollcalldeadline", "rollcallset":
		// the event that services get has its own
	default:
		if a.Name == "tracestate" && j.Tracestate == "" {
			j.Tracestate = a.Value
		}
		return j.extend(a)
	}
	return nil
}

// extend keeps an attribute that means nothing to Rollcall. Names that CloudEvents does not
// allow stay behind: a library at the service could refuse the whole batch for one.
func (j *Job) extend(a Attribute) error {
	for i := range len(a.Name) {
		if c := a.Name[i]; !isDigit(c) && (c < 'a' || c > 'z') {
			return nil
		}
	}
	if i := slices.IndexFunc(j.Attributes, func(have Attribute) bool { return have.Name == a.Name }); i >= 0 {
		j.Attributes[i] = a // of a member that stands twice the last one counts
		return nil
	}
	if len(j.Attributes) == maxAttributes {
		return errAttributes
	}
	j.Attributes = append(j.Attributes, a)
	return nil
}

// traceContext keeps the attribute of the tracing extension, and takes it for the job's context
// where no header gives one.
func (j *Job) traceContext(a Attribute) {
	if j.Traceparent == "" {
		j.Traceparent = a.Value
	}
	_ = j.extend(a)
}

// readTime keeps a time as the producer wrote it, where every library can read that. One that
// cannot be read leaves the broker's standing.
func (j *Job) readTime(text string) {
	t, err := ParseTime(text)
	if err != nil {
		return
	}
	if _, err := time.Parse(time.RFC3339, text); err != nil {
		text = t.UTC().Format(time.RFC3339Nano)
	}
	j.Time = text
}

// decodeHeader undoes quotes and percent-encoding of a header's value, as section 3.1.3.2 of
// the binding asks.
func decodeHeader(value string) (string, error) {
	if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
		value = unquote(value[1 : len(value)-1])
	}
	if strings.IndexByte(value, '%') >= 0 {
		value = unescape(value)
	}
	if !utf8.ValidString(value) {
		return "", errors.New("the value is not percent-encoded UTF-8")
	}
	return value, nil
}

// unquote undoes the backslashes of a quoted string.
func unquote(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}

// unescape decodes %XY. A percent sign that encodes nothing stands for itself.
func unescape(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
			b = append(b, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}

func unhex(c byte) byte {
	if isDigit(c) {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// readStructured takes in a CloudEvent in the JSON format 1.0.2.
func (j *Job) readStructured() error {
	doc := trimSpace(j.Data)
	if !ValidJSON(doc) {
		if !utf8.Valid(doc) {
			return errors.New("the structured CloudEvent is not valid UTF-8")
		}
		return fmt.Errorf("the body is not a structured CloudEvent: %w", json.Unmarshal(doc, new(json.RawMessage)))
	}
	if doc[0] != '{' {
		return errors.New("the body is not a structured CloudEvent: it is no JSON object")
	}
	e := structured{job: *j}
	EachMember(doc, e.member)
	if err := e.check(); err != nil {
		return err
	}
	e.job.Body = nil
	if err := e.readData(); err != nil {
		return err
	}
	*j = e.job
	return nil
}

// structured is a CloudEvent while its members are read.
type structured struct {
	job                       Job
	version                   string
	hasID, hasSource, hasType bool
	data, base64              []byte
	err                       error
}

// member takes in one member; it returns false to stop.
func (e *structured) member(quoted, value []byte) bool {
	if string(value) == "null" {
		return true
	}
	var name string
	if e.err = json.Unmarshal(quoted, &name); e.err != nil {
		return false
	}
	switch name {
	case "data":
		e.data = value
		return true
	case "data_base64":
		e.base64 = value
		return true
	}
	a := Attribute{Name: name, Value: string(value), Literal: isLiteral(name, value)}
	switch value[0] {
	case '{', '[':
		return true // no value of an attribute
	case '"':
		if e.err = json.Unmarshal(value, &a.Value); e.err != nil {
			return false
		}
	}
	switch name {
	case "specversion":
		e.version = a.Value
	case "id":
		e.hasID = a.Value != ""
	case "source":
		e.hasSource = a.Value != ""
	case "type":
		e.hasType = a.Value != ""
	}
	e.err = e.job.attribute(a)
	return e.err == nil
}

// isLiteral reports whether the value of an attribute travels without quotes. One that libraries
// cannot read (1.5, 2^40, a number for a dataschema) travels as text: one such job would have its
// whole batch refused.
func isLiteral(name string, value []byte) bool {
	switch name {
	case "dataschema", HeaderTraceparent, HeaderTracestate:
		return false
	}
	if value[0] == 't' || value[0] == 'f' {
		return true
	}
	_, err := strconv.ParseInt(string(value), 10, 32)
	return err == nil
}

func (e *structured) check() error {
	switch {
	case e.err != nil:
		return e.err
	case e.version == "" || !e.hasID || !e.hasSource || !e.hasType:
		return errors.New("the structured CloudEvent lacks one of specversion, id, source, type")
	case !strings.HasPrefix(e.version, "1."):
		return fmt.Errorf("CloudEvents specversion %q is not understood; send 1.0", clip(e.version, 16))
	case e.data != nil && e.base64 != nil:
		return errors.New("the structured CloudEvent has both data and data_base64")
	}
	return nil
}

func (e *structured) readData() error {
	j := &e.job
	switch {
	case e.base64 != nil:
		if err := json.Unmarshal(e.base64, &j.Body); err != nil {
			return fmt.Errorf("the data_base64 of the structured CloudEvent: %w", err)
		}
	case len(e.data) > 0 && e.data[0] == '"' && j.ContentType != "" && !isJSONMedia(j.ContentType):
		// Text travels as a JSON string when the content type says that it is not JSON.
		var text string
		if err := json.Unmarshal(e.data, &text); err != nil {
			return fmt.Errorf("the data of the structured CloudEvent: %w", err)
		}
		j.Body = []byte(text)
	default:
		j.Body = e.data
	}
	return nil
}
