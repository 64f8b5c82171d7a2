package service

import (
	"time"

	"rollcall/internal/jobs"
)

// RetryAfter is retryAfter, for the fuzz test.
func RetryAfter(value string, now time.Time, limit time.Duration) time.Duration {
	return retryAfter(value, now, limit)
}

// Decode decodes a reply with a cap of 1 MiB and a longest pause of a minute.
func Decode(call *jobs.Call, body []byte, contentType string) ([]jobs.Reply, *jobs.Failure) {
	d := newDecoder(jobs.MiB, time.Minute)
	return d.decode(call, body, contentType)
}

// AllOK is the recognizer in front of the decoder.
func AllOK(call *jobs.Call, body []byte) bool { return allOK(call.Jobs, body) }
