package service

import (
	"fmt"
	"strings"
)

// Format is how a service wants its jobs.
type Format uint8

// The formats. FormatBatch is one request for a batch, the others are one for each job: as a
// CloudEvent in binary mode, or as the bytes that the producer published.
const (
	FormatBatch Format = iota
	FormatEvent
	FormatPlain
)

var formatNames = [...]string{FormatBatch: "batch", FormatEvent: "event", FormatPlain: "plain"}

// UnmarshalText reads the name of a format.
func (f *Format) UnmarshalText(text []byte) error {
	word := strings.ToLower(strings.TrimSpace(string(text)))
	for i, name := range formatNames {
		if word == name {
			*f = Format(i)
			return nil
		}
	}
	return fmt.Errorf("%q is none of batch, event and plain", text)
}

// String returns the name.
func (f Format) String() string { return formatNames[f] }

// MarshalText implements [encoding.TextMarshaler].
func (f Format) MarshalText() ([]byte, error) { return []byte(f.String()), nil }
