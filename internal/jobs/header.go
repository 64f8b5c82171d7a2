package jobs

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Headers a producer may set. They are read case-insensitively: nats.go keeps the spelling
// of the producer, and Java and Python clients write their own. Of a header that stands twice
// in different spellings the one below counts, else the first in byte order.
const (
	HeaderMsgID    = "Nats-Msg-Id"
	HeaderDeadline = "Rollcall-Deadline"
	HeaderServices = "Rollcall-Services"
	HeaderSet      = "Rollcall-Set"
	HeaderSetSize  = "Rollcall-Set-Size"
	// HeaderReplayOf names the job, by its uid, from whose dead letter this one was made.
	HeaderReplayOf    = "Rollcall-Replay-Of"
	HeaderTraceparent = "traceparent"
	HeaderTracestate  = "tracestate"
	HeaderContentType = "Content-Type"
)

// The places of a [headers] value.
const (
	atMsgID = iota
	atDeadline
	atServices
	atSet
	atSetSize
	atReplayOf
	atTraceparent
	atTracestate
	atContentType
)

// known are the headers that [Decode] reads by name, each at its place.
var known = [...]string{
	atMsgID: HeaderMsgID, atDeadline: HeaderDeadline, atServices: HeaderServices, atSet: HeaderSet, atSetSize: HeaderSetSize,
	atReplayOf: HeaderReplayOf, atTraceparent: HeaderTraceparent, atTracestate: HeaderTracestate, atContentType: HeaderContentType,
}

// attributePrefix begins the header of a CloudEvents attribute.
const attributePrefix = "ce-"

// spelled is a header as it stands in a message.
type spelled struct {
	name, value string
	set         bool
}

// improve keeps the spelling that counts.
func (s *spelled) improve(canonical, name, value string) {
	if !s.set || s.name != canonical && (name == canonical || name < s.name) {
		*s = spelled{name, value, true}
	}
}

// headers are the headers of a job that mean something to Rollcall.
type headers struct {
	known [len(known)]spelled
	// attributes are those of CloudEvents, by name without prefix, in no order.
	attributes []attributeHeader
	// tooMany means that some attributes were left out.
	tooMany bool
}

type attributeHeader struct {
	attribute string
	spelled
}

// readHeaders goes through the headers once.
func readHeaders(all map[string][]string) (h headers) {
	for name, values := range all {
		if len(values) == 0 {
			continue
		}
		if len(name) > len(attributePrefix) && strings.EqualFold(name[:len(attributePrefix)], attributePrefix) {
			h.attribute(name, values[0])
			continue
		}
		for i, canonical := range known {
			if len(name) == len(canonical) && strings.EqualFold(name, canonical) {
				h.known[i].improve(canonical, name, valueOf(canonical, values))
			}
		}
	}
	return h
}

// valueOf returns the value of a header that stands once or more often: the first, but of a list all.
func valueOf(canonical string, values []string) string {
	if canonical == HeaderServices && len(values) > 1 {
		return strings.Join(values, ",")
	}
	return values[0]
}

const (
	// everyEvent is more than how many attributes every event has.
	everyEvent = 16
	// fewAttributes is how many most events have.
	fewAttributes = 8
)

// attribute keeps an attribute of the producer's event: those that name it in any case, of the others so many.
func (h *headers) attribute(spelling, value string) {
	canonical := strings.ToLower(spelling)
	name := canonical[len(attributePrefix):]
	for i := range h.attributes {
		if h.attributes[i].attribute == name {
			h.attributes[i].improve(canonical, spelling, value)
			return
		}
	}
	named := name == "id" || name == "source" || name == "type"
	if len(h.attributes) >= maxAttributes+everyEvent && !named {
		h.tooMany = true
		return
	}
	if h.attributes == nil {
		h.attributes = make([]attributeHeader, 0, fewAttributes)
	}
	h.attributes = append(h.attributes, attributeHeader{name, spelled{spelling, value, true}})
}

// at returns the value of the known header at a place, empty if it is not there.
func (h *headers) at(place int) string { return h.known[place].value }

// HeaderValue returns the first value of a header, and whether it is there. Case does not
// matter; of several spellings name itself counts, else the first in byte order.
func (d *Delivery) HeaderValue(name string) (value string, found bool) {
	if values := d.Header[name]; len(values) > 0 {
		return values[0], true
	}
	var best spelled
	for spelling, values := range d.Header {
		if len(values) > 0 && strings.EqualFold(spelling, name) {
			best.improve(name, spelling, values[0])
		}
	}
	return best.value, best.set
}

// readHeader takes in what Rollcall's own and NATS's headers say. The error joins all faults.
func (j *Job) readHeader(h *headers) error {
	j.ContentType = h.at(atContentType)
	j.Traceparent, j.Tracestate = h.at(atTraceparent), h.at(atTracestate)
	j.Services = readServices(h.at(atServices))
	if of := h.at(atReplayOf); of != "" && len(of) <= maxReplayOf {
		if _, err := ParseUID(of); err == nil {
			j.ReplayOf = of
		}
	}
	return errors.Join(j.name(h.at(atMsgID)), j.readDeadline(h.at(atDeadline)), j.readSet(h.at(atSet), h.at(atSetSize)))
}

// name takes over an id. One that is not UTF-8 could not be written to JSON and matched again.
func (j *Job) name(id string) error {
	switch {
	case id == "":
	case !utf8.ValidString(id):
		return errors.New("the job id is not valid UTF-8")
	default:
		j.ID = id
	}
	return nil
}

func (j *Job) readDeadline(value string) error {
	if value == "" {
		return nil
	}
	t, err := ParseTime(value)
	if err != nil {
		return fmt.Errorf("header %s %q is not RFC 3339, for example 2026-01-31T12:00:00Z", HeaderDeadline, clip(value, 64))
	}
	if t.IsZero() {
		t = t.Add(1) // the zero time stands for none; this one is over as well
	}
	if j.Deadline.IsZero() || t.Before(j.Deadline) {
		j.Deadline = t
	}
	return nil
}

// maxReplayOf is more than a uid is long.
const maxReplayOf = 64

// maxSet is how long the name of a set may be.
const maxSet = 64

// ValidSet reports whether a set may be called so: 1 to 64 letters, digits, _ and -.
func ValidSet(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-':
		default:
			return false
		}
	}
	return len(name) > 0 && len(name) <= maxSet
}

// readSet reads the membership in a set. A member whose size cannot be read is one all the same.
func (j *Job) readSet(set, size string) error {
	if set == "" {
		return nil
	}
	if !ValidSet(set) {
		return fmt.Errorf("header %s %q: want 1 to 64 letters, digits, _ and -", HeaderSet, clip(set, 80))
	}
	j.Set = set
	if size == "" {
		return nil
	}
	n, err := strconv.ParseUint(size, 10, 63)
	if err != nil || n == 0 {
		return fmt.Errorf("header %s %q: want a whole number of members, 1 or more", HeaderSetSize, clip(size, 64))
	}
	j.SetSize = int(n)
	return nil
}

// readServices reads a list of services; an empty one is none.
func readServices(list string) (names []string) {
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// IsHeaderName reports whether s can be the name of a header (RFC 9110, section 5.6.2).
func IsHeaderName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// IsHeaderValue reports whether s can be the value of a header: no line break, no control
// character.
func IsHeaderValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
