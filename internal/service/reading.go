package service

import (
	"bytes"
	"time"

	"rollcall/internal/jobs"
)

// maxQuote is how much of what a service wrote is kept of an error, in bytes.
const maxQuote = 200

// reading is how the replies of one service are read, over HTTP and over NATS.
type reading struct {
	name     string
	cfg      *Config
	decoder  decoder
	retryMax time.Duration
	// plain is set where the URL says http://.
	plain bool
}

func newReading(name string, cfg *Config, retryMax time.Duration) reading {
	return reading{name: name, cfg: cfg, decoder: newDecoder(cfg.MaxReply, retryMax), retryMax: retryMax}
}

// secrets returns what must not be seen in a text that a service wrote.
type secrets func() []string

// accept reads a reply with an accepted status.
func (r *reading) accept(call *jobs.Call, body []byte, contentType string, known secrets) ([]jobs.Reply, *jobs.Failure) {
	if r.cfg.Format == FormatBatch {
		return r.decoder.decode(call, body, contentType, known)
	}
	return r.single(body, known), nil
}

// single reads the reply to a request for one job: the status has said ok, and only the
// conditions can change that. A body that cannot be read never does.
func (r *reading) single(body []byte, known secrets) []jobs.Reply {
	body = bytes.TrimSpace(bytes.TrimPrefix(body, byteOrderMark))
	if len(body) == 0 || !jobs.ValidJSON(body) {
		return r.decoder.ok(1)
	}
	switch {
	case r.cfg.FailIf.holds(body):
		return []jobs.Reply{{Status: jobs.StatusFail, Error: r.cfg.FailIf.says(hide(string(body), known()...))}}
	case r.cfg.RetryIf.holds(body):
		return []jobs.Reply{{Status: jobs.StatusRetry, Error: r.cfg.RetryIf.says(hide(string(body), known()...))}}
	case r.cfg.Keep:
		return []jobs.Reply{{Status: jobs.StatusOK, Data: payload(bytes.Clone(body))}}
	default:
		return r.decoder.ok(1)
	}
}
