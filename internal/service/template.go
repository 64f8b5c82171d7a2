package service

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"rollcall/internal/jobs"
)

// template is a text with holes that a job fills. There is no other template language.
type template []piece

// piece is literal text, or a hole.
type piece struct {
	text string
	hole *hole
}

// hole is what stands between braces.
type hole struct {
	// text is the hole as it was written, for messages.
	text string
	// value returns what a job fills in, false if it has no such thing.
	value func(j *jobs.Job) (string, bool)
}

// holeNames is what a fault shows.
const holeNames = "{id} {uid} {type} {subject} {subject:2} {header:X-Tenant} {data:/order/id} {attempt}"

// parseTemplate reads a text with holes.
func parseTemplate(text string) (template, error) {
	var t template
	for text != "" {
		before, rest, found := strings.Cut(text, "{")
		if before != "" {
			t = append(t, piece{text: before})
		}
		if !found {
			break
		}
		inside, after, closed := strings.Cut(rest, "}")
		if !closed {
			return nil, fmt.Errorf("the hole {%s has no end; a hole is one of %s", jobs.Clip(rest, 40), holeNames)
		}
		h, err := parseHole(inside)
		if err != nil {
			return nil, err
		}
		t = append(t, piece{hole: h})
		text = after
	}
	return t, nil
}

func parseHole(inside string) (*hole, error) {
	name, argument, hasArgument := strings.Cut(inside, ":")
	h := &hole{text: "{" + inside + "}"}
	switch {
	case name == "data" && hasArgument && (argument == "" || argument[0] == '/'):
		h.value = func(j *jobs.Job) (string, bool) { return scalar(j, argument) }
	case name == "header" && argument != "":
		h.value = func(j *jobs.Job) (string, bool) { return j.HeaderValue(argument) }
	case name == "subject" && hasArgument:
		n, err := strconv.Atoi(argument)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("the hole %s: tokens of a subject are counted from 1", h.text)
		}
		h.value = func(j *jobs.Job) (string, bool) { return token(j.Subject, n) }
	case hasArgument:
		return nil, unknownHole(h.text)
	case name == "id":
		h.value = func(j *jobs.Job) (string, bool) { return j.ID, true }
	case name == "uid":
		h.value = func(j *jobs.Job) (string, bool) { return j.UID, true }
	case name == "type":
		h.value = func(j *jobs.Job) (string, bool) { return j.Type, true }
	case name == "subject":
		h.value = func(j *jobs.Job) (string, bool) { return j.Subject, true }
	case name == "attempt":
		h.value = func(j *jobs.Job) (string, bool) { return strconv.Itoa(j.Attempt()), true }
	default:
		return nil, unknownHole(h.text)
	}
	return h, nil
}

func unknownHole(text string) error {
	return fmt.Errorf("the hole %s is none of %s", jobs.Clip(text, 60), holeNames)
}

// token returns the n-th token of a subject.
func token(subject string, n int) (string, bool) {
	for word := range strings.SplitSeq(subject, ".") {
		if n--; n == 0 {
			return word, true
		}
	}
	return "", false
}

// scalar returns the string, number or boolean at a place in the job's body, which is JSON if it
// reads as JSON: a content type that says otherwise only decides how the body travels.
func scalar(j *jobs.Job, pointer string) (string, bool) {
	if j.Format != jobs.FormatJSON && !jobs.ValidJSON(j.Body) {
		return "", false
	}
	return scalarText(jobs.Pointer(j.Body, pointer))
}

// scalarText returns the text of a JSON string, number or boolean.
func scalarText(value []byte) (text string, ok bool) {
	if len(value) == 0 {
		return "", false
	}
	switch value[0] {
	case '"':
		return text, json.Unmarshal(value, &text) == nil
	case '{', '[', 'n':
		return "", false
	default:
		return string(value), true
	}
}

// holes reports whether the template has any.
func (t template) holes() bool {
	for _, p := range t {
		if p.hole != nil {
			return true
		}
	}
	return false
}

// fill writes the template for a job; each value goes through encode, which refuses one that
// cannot stand there by an error.
func (t template) fill(j *jobs.Job, encode func(value string) (string, error)) (string, error) {
	if len(t) == 1 && t[0].hole == nil {
		return t[0].text, nil
	}
	var b strings.Builder
	for _, p := range t {
		if p.hole == nil {
			b.WriteString(p.text)
			continue
		}
		value, found := p.hole.value(j)
		if !found {
			return "", fmt.Errorf("the job has nothing for the hole %s", p.hole.text)
		}
		value, err := encode(value)
		if err != nil {
			return "", fmt.Errorf("the job's value for the hole %s %w", p.hole.text, err)
		}
		b.WriteString(value)
	}
	return b.String(), nil
}
