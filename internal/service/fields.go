package service

import (
	"maps"
	"strconv"
	"sync"
	"time"

	"rollcall/internal/jobs"
)

// field is one header.
type field struct{ name, value string }

// fields are headers before it is known how many there will be.
type fields []field

// written are fields to use again. On the stack they would make that of a call's goroutine grow.
var written = sync.Pool{New: func() any { return new(fields) }}

func newFields() *fields { return written.Get().(*fields) }

// set adds a header unless its value is empty.
func (f *fields) set(name, value string) {
	if value != "" {
		*f = append(*f, field{name, value})
	}
}

// over ends the fields and returns them together with the headers of fixed. The map has the size
// that it needs, because growing costs more than filling it, and the values share one backing array.
func (f *fields) over(fixed map[string][]string) map[string][]string {
	header := make(map[string][]string, len(fixed)+len(*f))
	maps.Copy(header, fixed)
	values := make([]string, len(*f))
	for i, field := range *f {
		values[i] = field.value
		header[field.name] = values[i : i+1 : i+1]
	}
	clear(*f)
	*f = (*f)[:0]
	written.Put(f)
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
