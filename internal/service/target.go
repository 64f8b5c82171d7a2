package service

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"rollcall/internal/jobs"
)

// target is where the requests of a service go: a URL whose path and query may have holes.
// Scheme, host and port are the setting's own.
type target struct {
	base url.URL
	// path and query are nil where there is no hole: then base says all. A path is kept by its
	// segments, already percent-encoded.
	path  []template
	query template
}

// stand is what stands for a hole while the URL is parsed. It survives that unchanged.
const stand = "h0le1n7heU2L"

// parseTarget reads a URL with holes.
func parseTarget(raw string) (*target, error) {
	t, err := parseTemplate(raw)
	if err != nil {
		return nil, err
	}
	if strings.Contains(raw, stand) {
		return nil, errors.New("the URL cannot be read")
	}
	var plain strings.Builder
	var holes []piece
	for _, p := range t {
		if p.hole == nil {
			plain.WriteString(p.text)
			continue
		}
		holes = append(holes, p)
		plain.WriteString(stand)
	}
	u, err := parsePlainURL(plain.String())
	switch {
	case strings.Contains(origin(plain.String()), stand), err == nil && strings.Contains(strings.ToLower(u.Scheme+u.Host+u.User.String()), strings.ToLower(stand)):
		return nil, fmt.Errorf("the hole %s stands in scheme, host or port; holes are for path and query", holes[0].hole.text)
	case err != nil:
		return nil, asWritten(err, holes)
	}
	out := &target{base: *u}
	if len(holes) == 0 {
		return out, nil
	}
	for segment := range strings.SplitSeq(u.EscapedPath(), "/") {
		var filled template
		filled, holes = withHoles(segment, holes)
		out.path = append(out.path, filled)
	}
	out.query, holes = withHoles(u.RawQuery, holes)
	if len(holes) > 0 {
		return nil, fmt.Errorf("the hole %s stands in no path and no query", holes[0].hole.text)
	}
	return out, nil
}

// origin returns what stands before path, query and fragment, also of what is no URL.
func origin(raw string) string {
	from := strings.Index(raw, "://")
	if from < 0 {
		return ""
	}
	from += len("://")
	if n := strings.IndexAny(raw[from:], "/?#"); n >= 0 {
		return raw[:from+n]
	}
	return raw
}

// asWritten puts holes back where they stood in the text of an error.
func asWritten(err error, holes []piece) error {
	text := err.Error()
	for _, p := range holes {
		text = strings.Replace(text, stand, p.hole.text, 1)
	}
	return errors.New(text)
}

// withHoles puts holes back where they stood in text, and returns the holes that are left.
func withHoles(text string, holes []piece) (template, []piece) {
	var t template
	for {
		before, after, found := strings.Cut(text, stand)
		if before != "" || !found {
			t = append(t, piece{text: before})
		}
		if !found {
			return t, holes
		}
		t, holes, text = append(t, holes[0]), holes[1:], after
	}
}

// holes reports whether a job has to fill anything.
func (t *target) holes() bool { return t.path != nil }

// fill returns the URL for a job.
func (t *target) fill(j *jobs.Job) (*url.URL, error) {
	if !t.holes() {
		return &t.base, nil
	}
	var path strings.Builder
	for i, segment := range t.path {
		if i > 0 {
			path.WriteByte('/')
		}
		text, err := segment.fill(j, encodeSegment)
		if err != nil {
			return nil, err
		}
		if segment.holes() {
			text = closeDots(text)
		}
		path.WriteString(text)
	}
	query, err := t.query.fill(j, encodeQuery)
	if err != nil {
		return nil, err
	}
	u := t.base
	u.RawPath, u.RawQuery = path.String(), query
	if u.Path, err = url.PathUnescape(u.RawPath); err != nil {
		return nil, fmt.Errorf("the filled path cannot be read: %w", err)
	}
	return &u, nil
}

func encodeSegment(value string) (string, error) {
	if value == "" {
		return "", errors.New("is empty, and stands in a path")
	}
	return percentEncode(value), nil
}

func encodeQuery(value string) (string, error) { return percentEncode(value), nil }

// closeDots keeps a filled segment from leading elsewhere, as . and .. do however they are written.
func closeDots(segment string) string {
	plain, err := url.PathUnescape(segment)
	if err == nil && (plain == "." || plain == "..") {
		return strings.ReplaceAll(plain, ".", "%2E")
	}
	return segment
}

// percentEncode encodes everything that RFC 3986 reserves, so that a value stays one segment of
// a path, or one value of a query.
func percentEncode(s string) string {
	const hex = "0123456789ABCDEF"
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~' {
			b = append(b, c)
			continue
		}
		b = append(b, '%', hex[c>>4], hex[c&15])
	}
	return string(b)
}

// subject is where the requests of a service on NATS go; it may have holes.
type subject struct{ text template }

// maxSubject bounds a filled subject, in bytes.
const maxSubject = 255

// parseSubject reads what stands behind nats://.
func parseSubject(raw string) (subject, error) {
	t, err := parseTemplate(raw)
	if err != nil {
		return subject{}, err
	}
	var plain strings.Builder
	for _, p := range t {
		if plain.WriteString(p.text); p.hole != nil {
			plain.WriteString("x")
		}
	}
	return subject{t}, checkSubject(plain.String())
}

// pattern returns a filter for every subject that jobs can make of this one: a hole stays inside its
// token.
func (s subject) pattern() string {
	var text strings.Builder
	for _, p := range s.text {
		if text.WriteString(p.text); p.hole != nil {
			text.WriteByte('*')
		}
	}
	tokens := strings.Split(text.String(), ".")
	for i, token := range tokens {
		if strings.Contains(token, "*") {
			tokens[i] = "*"
		}
	}
	return strings.Join(tokens, ".")
}

// fill returns the subject for a job.
func (s subject) fill(j *jobs.Job) (string, error) {
	text, err := s.text.fill(j, encodeToken)
	if err != nil {
		return "", err
	}
	if len(text) > maxSubject {
		return "", fmt.Errorf("the filled subject has %d bytes, more than %d", len(text), maxSubject)
	}
	if s.text[0].hole != nil && (text[0] == '$' || strings.HasPrefix(text, "_INBOX")) {
		return "", fmt.Errorf("the job's value for the hole %s would lead to a subject of the NATS system", s.text[0].hole.text)
	}
	return text, nil
}

// encodeToken refuses what would not stay inside its token.
func encodeToken(value string) (string, error) {
	if value == "" {
		return "", errors.New("is empty, and stands in a subject")
	}
	for i := range len(value) {
		if c := value[i]; c <= ' ' || c >= 0x7f || c == '.' || c == '*' || c == '>' {
			return "", errors.New("has a dot, a blank, a wildcard or a character beyond ASCII, and stands in a subject")
		}
	}
	return value, nil
}
