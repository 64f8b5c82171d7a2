package service

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"rollcall/internal/jobs"
)

// Condition looks into a JSON reply: a JSON pointer, and the values that count, as in
// /code=busy|locked.
type Condition struct {
	pointer string
	values  []string
}

// UnmarshalText reads /pointer=value|value.
func (c *Condition) UnmarshalText(text []byte) error {
	pointer, values, found := strings.Cut(strings.TrimSpace(string(text)), "=")
	if !found || !strings.HasPrefix(pointer, "/") || values == "" {
		return errors.New("want a JSON pointer and the values that count: /status=error, /code=busy|locked")
	}
	c.pointer, c.values = pointer, strings.Split(values, "|")
	return nil
}

// MarshalText writes what [Condition.UnmarshalText] reads.
func (c Condition) MarshalText() ([]byte, error) {
	if c.pointer == "" {
		return nil, nil
	}
	return []byte(c.pointer + "=" + strings.Join(c.values, "|")), nil
}

func (c *Condition) isSet() bool { return c.pointer != "" }

// holds reports whether a valid JSON document fulfils the condition. Numbers are compared as
// they are written.
func (c *Condition) holds(doc []byte) bool {
	if !c.isSet() {
		return false
	}
	text, ok := scalarText(jobs.Pointer(doc, c.pointer))
	return ok && slices.Contains(c.values, text)
}

// says is the reason of a job whose reply fulfils the condition.
func (c *Condition) says(doc string) string {
	return jobs.Clip(fmt.Sprintf("the reply has %s=%s: %s", c.pointer, strings.Join(c.values, "|"), jobs.Printable(doc, maxQuote)), maxErrorText)
}
