package jobs

import "encoding/json"

// ValidJSON reports whether b is one JSON value in valid UTF-8.
func ValidJSON(b []byte) bool { return json.Valid(b) }
