package service

import (
	"bytes"

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

// plainEntry reads an entry of a reply that is as most are, and valid JSON: one member, or with a
// second key two, whose values are texts without escapes. What it does not recognize is for
// encoding/json, which takes ten times as long. A fuzz test compares the two.
func plainEntry(entry []byte, key, second string) (id, status string, ok bool) {
	p := parser{rest: entry}
	if !p.eat('{') || !p.word(key) || !p.eat(':') {
		return "", "", false
	}
	if id, ok = p.text(); !ok {
		return "", "", false
	}
	if second != "" {
		if !p.eat(',') || !p.word(second) || !p.eat(':') {
			return "", "", false
		}
		if status, ok = p.text(); !ok {
			return "", "", false
		}
	}
	return id, status, p.eat('}') && len(p.space()) == 0
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

// text takes a string of valid JSON, if it has no escapes.
func (p *parser) text() (string, bool) {
	if !p.eat('"') {
		return "", false
	}
	end := bytes.IndexByte(p.rest, '"')
	if end < 0 || bytes.IndexByte(p.rest[:end], '\\') >= 0 {
		return "", false
	}
	text := string(p.rest[:end])
	p.rest = p.rest[end+1:]
	return text, true
}
