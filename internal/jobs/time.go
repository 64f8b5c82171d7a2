package jobs

import (
	"errors"
	"strings"
	"time"
)

// errTime is returned for a text that RFC 3339 does not allow.
var errTime = errors.New("not a time of RFC 3339, for example 2026-01-31T12:00:00Z")

// ParseTime reads a time as RFC 3339 (section 5.6) has it. [time.Parse] differs from it: it
// refuses a lower-case t or z and the leap second :60, and takes an offset of 24 hours.
// A leap second is the second after :59.
func ParseTime(s string) (time.Time, error) {
	const least = len("2026-01-31T12:00:00Z")
	if len(s) < least || s[10] != 'T' && s[10] != 't' || strings.ContainsAny(s, ", ") {
		return time.Time{}, errTime
	}
	if sign := s[len(s)-6]; (sign == '+' || sign == '-') && (s[len(s)-5:len(s)-3] > "23" || s[len(s)-2:] > "59") {
		return time.Time{}, errTime
	}
	s = strings.ToUpper(s)
	leap := s[17:19] == "60"
	if leap {
		s = s[:17] + "59" + s[19:]
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, errTime
	}
	if leap {
		t = t.Add(time.Second)
	}
	return t, nil
}
