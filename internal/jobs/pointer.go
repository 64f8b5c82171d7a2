package jobs

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Pointer returns the value that a JSON pointer (RFC 6901) names in doc, nil if there is none.
// doc must be valid JSON, as [ValidJSON] has it; nothing of it is copied. Of a name that an
// object has twice the last one counts.
func Pointer(doc []byte, pointer string) []byte {
	value := trimSpace(doc)
	for pointer != "" {
		if pointer[0] != '/' {
			return nil
		}
		token, rest, more := strings.Cut(pointer[1:], "/")
		if pointer = ""; more {
			pointer = "/" + rest
		}
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		if value = child(value, token); value == nil {
			return nil
		}
	}
	return value
}

// child returns the member or element that token names.
func child(value []byte, token string) (found []byte) {
	if len(value) == 0 {
		return nil
	}
	switch value[0] {
	case '{':
		EachMember(value, func(name, v []byte) bool {
			if SameName(name, token) {
				found = v
			}
			return true
		})
	case '[':
		n, err := strconv.ParseUint(token, 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != token {
			return nil
		}
		EachElement(value, func(v []byte) bool {
			if n == 0 {
				found = v
			}
			n--
			return found == nil
		})
	}
	return found
}

// SameName compares a member's name, still in its quotes as [EachMember] has it, with a text.
func SameName(quoted []byte, want string) bool {
	name := quoted[1 : len(quoted)-1]
	if string(name) == want {
		return true
	}
	var plain string
	return strings.IndexByte(string(name), '\\') >= 0 && json.Unmarshal(quoted, &plain) == nil && plain == want
}

// EachMember goes through the members of a valid JSON object, as [ValidJSON] has it, until visit
// returns false. A name is still in its quotes. Nothing is copied.
func EachMember(object []byte, visit func(name, value []byte) bool) {
	s := scanner{b: object, i: 1}
	for s.space(); s.peek() != '}'; s.space() {
		s.take(',')
		s.space()
		name := s.span(s.string)
		s.space()
		s.take(':')
		s.space()
		value := s.span(s.value)
		if len(name) < 2 || value == nil || !visit(name, value) {
			return
		}
	}
}

// EachElement goes through the elements of a valid JSON array until visit returns false.
// Nothing is copied.
func EachElement(array []byte, visit func(value []byte) bool) {
	s := scanner{b: array, i: 1}
	for s.space(); s.peek() != ']'; s.space() {
		s.take(',')
		s.space()
		if value := s.span(s.value); value == nil || !visit(value) {
			return
		}
	}
}

// span returns what one step of the scanner passes, nil if that fails.
func (s *scanner) span(step func() bool) []byte {
	start := s.i
	if !step() {
		return nil
	}
	return s.b[start:s.i]
}

// trimSpace cuts off the white space of JSON.
func trimSpace(b []byte) []byte {
	s := scanner{b: b}
	s.space()
	end := len(b)
	for end > s.i && strings.IndexByte(" \t\r\n", b[end-1]) >= 0 {
		end--
	}
	return b[s.i:end]
}
