package service

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"rollcall/internal/jobs"
)

// said is what the service answered, in words.
func (c *conformance) said(a answered) string {
	took := a.took.Round(100 * time.Microsecond)
	switch {
	case a.failure != nil && a.answer.status == 0:
		return strings.ReplaceAll(a.failure.Err.Error(), "\n", "; ")
	case a.failure != nil:
		return fmt.Sprintf("in %v: %v", took, a.failure.Err)
	default:
		return fmt.Sprintf("in %v: %d%s", took, a.answer.status, c.kindOfBody(a))
	}
}

// kindOfBody names the body of an accepted reply, or shows the beginning of one that decides nothing.
func (c *conformance) kindOfBody(a answered) string {
	body := bytes.TrimSpace(bytes.TrimPrefix(a.answer.body, byteOrderMark))
	switch {
	case len(body) == 0:
		return ", empty"
	case !c.service.Batched():
		return ", " + jobs.Printable(string(body), maxShown)
	}
	if dialect, _, err := findDialect(body); err == nil && dialect != "" {
		return ", " + dialect
	}
	return ", JSON of its own: " + jobs.Printable(string(body), maxShown)
}

// maxShown is how much of a body of the service's own is shown, in bytes: a success may say that it
// is none.
const maxShown = 60

// read is what a pool makes of a reply, in words.
func (c *conformance) read(a answered) string {
	if f := a.failure; f != nil {
		return c.readFailure(f, len(a.call.Jobs))
	}
	var counts [jobs.StatusSkipped]int
	alone, example := 0, ""
	for i := range a.replies {
		r := &a.replies[i]
		counts[r.Status]++
		if r.Alone {
			alone++
		}
		if example == "" && r.Status != jobs.StatusOK && r.Error != "" {
			example = ": " + jobs.Printable(r.Error, maxQuote)
		}
	}
	switch n := len(a.replies); {
	case n == 0:
		return "nothing to do"
	case counts[jobs.StatusOK] == n:
		return "done: " + counted(n)
	}
	var parts []string
	for _, s := range [...]jobs.Status{jobs.StatusOK, jobs.StatusRetry, jobs.StatusFail} {
		if counts[s] > 0 {
			parts = append(parts, fmt.Sprintf("%s: %s", s, counted(counts[s])))
		}
	}
	text := strings.Join(parts, ", ") + example
	if alone > 0 {
		text += fmt.Sprintf(" (%s come back, each in a request of its own)", counted(alone))
	}
	return text
}

// readFailure is what a pool makes of a call for n jobs that failed as a whole.
func (c *conformance) readFailure(f *jobs.Failure, n int) string {
	switch {
	case f.Misconfigured:
		return "a mistake in the settings: the breaker opens, jobs wait and lose no attempt"
	case f.Final && n > 1:
		return "the request is at fault: it is halved until the job at fault stands alone, and that is dead-lettered"
	case f.Final && n == 1:
		return "the job is at fault: it is dead-lettered at once"
	case f.Final:
		return "the request is at fault"
	case f.Reason == jobs.ReasonThrottled:
		return "not now: the jobs wait and lose no attempt"
	case !burns(f):
		return "nothing was sent: it is tried again, and the jobs lose no attempt"
	case f.Reason == jobs.ReasonBadResponse || f.Reason == jobs.ReasonTooLarge:
		return "the reply cannot be read: " + counted(n) + " tried again, though the service may have done the work; each time is an attempt"
	default:
		return fmt.Sprintf("%s tried again, up to %d times in a row and then later; each time is an attempt", counted(n), c.cfg.Tries)
	}
}

// counted is a number of jobs in words.
func counted(n int) string {
	if n == 1 {
		return "1 job"
	}
	return fmt.Sprintf("%d jobs", n)
}
