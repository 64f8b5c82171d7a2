package service

import (
	"maps"
	"strconv"
	"time"

	"rollcall/internal/jobs"
)

// field is one header.
type field struct{ name, value string }

// fields are headers before it is known how many there will be.
type fields []field

// set adds a header unless its value is empty.
func (f *fields) set(name, value string) {
	if value != "" {
		*f = append(*f, field{name, value})
	}
}

// over returns the headers together with those of fixed. The map has the size that it needs, because
// growing costs more than filling it, and the values share one backing array.
func (f fields) over(fixed map[string][]string) map[string][]string {
	header := make(map[string][]string, len(fixed)+len(f))
	maps.Copy(header, fixed)
	values := make([]string, len(f))
	for i := range f {
		values[i] = f[i].value
		header[f[i].name] = values[i : i+1 : i+1]
	}
	return header
}

// ofJob passes on the headers of a request for one job.
func (f *fields) ofJob(j *jobs.Job) {
	f.set(headerUID, j.UID)
	f.set(headerAttempt, strconv.Itoa(j.Attempt()))
	if !j.Deadline.IsZero() {
		f.set(headerDeadline, j.Deadline.UTC().Format(time.RFC3339Nano))
	}
}
