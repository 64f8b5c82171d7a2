package service

import (
	"bytes"
	"encoding/json"
	"slices"

	"rollcall/internal/jobs"
)

// allOK recognizes the reply that nearly every call gets, without building anything from it:
//
//	{"results":[{"id":"<1st job>","status":"ok"},{"id":"<2nd job>","status":"ok"},…]}
//
// with white space as JSON allows it, every job of the call in its order, and nothing else.
// It accepts a small part of JSON and never more than the decoder behind it: what it does not
// recognize, it leaves to that one. A fuzz test compares the two.
func allOK(list []*jobs.Job, body []byte) bool {
	p := parser{rest: body}
	if !p.eat('{') || !p.word(`"results"`) || !p.eat(':') || !p.eat('[') {
		return false
	}
	for i, j := range list {
		if i > 0 && !p.eat(',') {
			return false
		}
		if !p.eat('{') || !p.word(`"id"`) || !p.eat(':') || !p.quoted(j.ID) || !p.eat(',') ||
			!p.word(`"status"`) || !p.eat(':') || !p.word(`"ok"`) || !p.eat('}') {
			return false
		}
	}
	return p.eat(']') && p.eat('}') && len(p.space()) == 0 && distinct(list)
}

// plainField is a member of an entry, its name in quotes, and where its value goes: a text, or whatever it is.
type plainField struct {
	name string
	text *string
	raw  *json.RawMessage
}

// plainEntry reads an entry of a reply, which is valid JSON, if it is as most are: an object of the given
// fields, spelled as here, its texts without escapes. What it does not recognize is for encoding/json, which
// takes ten times as long. A fuzz test compares the two.
func plainEntry(entry []byte, fields ...plainField) bool {
	if entry[0] != '{' {
		return false
	}
	plain := true
	jobs.EachMember(entry, func(name, value []byte) bool {
		i := slices.IndexFunc(fields, func(f plainField) bool { return string(name) == f.name })
		plain = i >= 0 && fields[i].take(value)
		return plain
	})
	return plain
}

// take keeps a value, a text only if it is one without escapes.
func (f *plainField) take(value []byte) bool {
	switch {
	case f.raw != nil:
		*f.raw = bytes.Clone(value) // the memory of a reply is used again
		return true
	case value[0] != '"' || bytes.IndexByte(value, '\\') >= 0:
		return false
	default:
		*f.text = string(value[1 : len(value)-1])
		return true
	}
}

// distinct reports whether no two jobs share an id, and none has the uid of another for its id.
// Ids that are uids need no comparison among themselves.
func distinct(list []*jobs.Job) bool {
	given := 0
	for _, j := range list {
		if j.ID != j.UID {
			given++
		}
	}
	if given == 0 {
		return true
	}
	seen := make(map[string]struct{}, len(list))
	for _, j := range list {
		seen[j.ID] = struct{}{}
	}
	if len(seen) < len(list) {
		return false
	}
	for _, j := range list {
		if _, taken := seen[j.UID]; taken && j.ID != j.UID {
			return false
		}
	}
	return true
}

// parser walks over bytes that are expected.
type parser struct{ rest []byte }

// space skips white space and returns what is left.
func (p *parser) space() []byte {
	for len(p.rest) > 0 && (p.rest[0] == ' ' || p.rest[0] == '\n' || p.rest[0] == '\t' || p.rest[0] == '\r') {
		p.rest = p.rest[1:]
	}
	return p.rest
}

func (p *parser) eat(c byte) bool {
	if b := p.space(); len(b) == 0 || b[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *parser) word(w string) bool {
	if !bytes.HasPrefix(p.space(), []byte(w)) {
		return false
	}
	p.rest = p.rest[len(w):]
	return true
}

// quoted accepts want between quotes, if it needs no escape.
func (p *parser) quoted(want string) bool {
	b := p.space()
	if len(b) < len(want)+2 || b[0] != '"' || string(b[1:1+len(want)]) != want || b[1+len(want)] != '"' {
		return false
	}
	for i := range len(want) {
		if c := want[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x80 {
			return false
		}
	}
	p.rest = b[len(want)+2:]
	return true
}
