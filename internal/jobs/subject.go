package jobs

import (
	"fmt"
	"strings"
)

// MaxSubject bounds the subject of a job, in bytes. nats-server closes the connection at a
// protocol line above 4096 (MAX_CONTROL_LINE_SIZE), and the line also holds the reply subject
// and sizes; the subject of a dead letter is longer than that of its job.
const MaxSubject = 2048

// CheckSubject returns what is wrong with a subject to publish to, nil if nothing is. The
// server would close the connection of a client that sends too long a subject.
func CheckSubject(s string) error {
	if strings.ContainsAny(s, "*>") {
		return fmt.Errorf("subject %q: wildcards are for subscribers, a message goes to one subject", s)
	}
	return CheckFilter(s)
}

// CheckFilter returns what is wrong with a subject to subscribe to, in which whole tokens may be
// wildcards; nil if nothing is.
func CheckFilter(s string) error {
	if len(s) > MaxSubject {
		return fmt.Errorf("the subject has %d bytes: want at most %d", len(s), MaxSubject)
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return fmt.Errorf("subject %q: blanks and control characters are not allowed", s)
	}
	tokens := strings.Split(s, ".")
	for i, token := range tokens {
		if token == "" {
			return fmt.Errorf("subject %q: want words between the dots, such as jobs.mail", s)
		}
		if token == ">" && i != len(tokens)-1 {
			return fmt.Errorf("subject %q: > stands for the rest of a subject, so only at its end", s)
		}
	}
	return nil
}

// SubjectCovers reports whether every subject that pattern b matches is matched by pattern a.
// A subject without wildcards is a pattern that matches itself.
func SubjectCovers(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i, token := range as {
		switch {
		case token == ">":
			return len(bs) > i
		case i >= len(bs), bs[i] == ">":
			return false
		case token != "*" && token != bs[i]:
			return false
		}
	}
	return len(as) == len(bs)
}

// SubjectsMeet reports whether some subject is matched by both patterns.
func SubjectsMeet(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := 0; i < len(as) && i < len(bs); i++ {
		switch {
		case as[i] == ">", bs[i] == ">":
			return true
		case as[i] != "*" && bs[i] != "*" && as[i] != bs[i]:
			return false
		}
	}
	return len(as) == len(bs)
}
