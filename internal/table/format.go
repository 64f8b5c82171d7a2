package table

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Format is how data is printed. It implements pflag.Value.
type Format string

// The formats.
const (
	Table Format = "table"
	JSON  Format = "json"
	JSONL Format = "jsonl"
)

var errFormat = errors.New("want table, json or jsonl")

// Set implements pflag.Value.
func (f *Format) Set(s string) error {
	switch v := Format(s); v {
	case Table, JSON, JSONL:
		*f = v
		return nil
	}
	return errFormat
}

// String implements pflag.Value.
func (f *Format) String() string { return string(*f) }

// Type implements pflag.Value.
func (f *Format) Type() string { return "format" }

// Printer is where to print, and how.
type Printer struct {
	Out    io.Writer
	Format Format
}

// Value prints a value as JSON, whatever the format: on several lines, with [JSONL] on one.
func (p Printer) Value(v any) error {
	indent := "  "
	if p.Format == JSONL {
		indent = ""
	}
	return p.json(v, indent, "\n")
}

// json prints v and end.
func (p Printer) json(v any, indent, end string) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print as JSON: %w", err)
	}
	text := escapeControls(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
	if _, err := p.Out.Write(append(text, end...)); err != nil {
		return fmt.Errorf("print as JSON: %w", err)
	}
	return nil
}

// escapeControls escapes the control characters that encoding/json leaves as they are: DEL and
// C1, among which a terminal may find the beginning of a command. They can only stand in strings.
func escapeControls(text []byte) []byte {
	if !bytes.ContainsFunc(text, isLateControl) {
		return text
	}
	var out []byte
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if isLateControl(r) {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = append(out, text[:n]...)
		}
		text = text[n:]
	}
	return out
}

func isLateControl(r rune) bool { return r >= 0x7f && r <= 0x9f }
