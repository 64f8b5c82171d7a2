package service

import (
	"context"
	"encoding/json"
	"net/url"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"rollcall/internal/jobs"
)

// Decode decodes a reply with a cap of 1 MiB and a longest pause of a minute.
func Decode(call *jobs.Call, body []byte, contentType string) ([]jobs.Reply, *jobs.Failure) {
	return NewDecoder()(call, body, contentType)
}

// NewDecoder returns the function behind Decode, to be used many times.
func NewDecoder() func(*jobs.Call, []byte, string) ([]jobs.Reply, *jobs.Failure) {
	d := newDecoder(jobs.MiB, time.Minute)
	return func(call *jobs.Call, body []byte, contentType string) ([]jobs.Reply, *jobs.Failure) {
		return d.decode(call, body, contentType, func() []string { return nil })
	}
}

// ErrorReply reads the headers of a reply over NATS that says that the call failed.
func ErrorReply(code, text, after string) *jobs.Failure {
	t := &natsTransport{reading: newReading("billing", &Config{MaxReply: jobs.MiB}, time.Minute)}
	return t.errorReply(&nats.Msg{Header: nats.Header{micro.ErrorHeader: {text}, headerRetryAfter: {after}}}, natsStatus(code), nil)
}

// AllOK is the recognizer in front of the decoder.
func AllOK(call *jobs.Call, body []byte) bool { return allOK(call.Jobs, body) }

// ReadEntries reads an entry in each dialect as the recognizers in front of the decoder do, and as
// encoding/json does: what plain recognized, and what it should be, in turn. An entry that it did not recognize is
// in neither.
func ReadEntries(entry []byte) (plain, decoded []any) {
	var results, wantResults resultEntry
	var items, wantItems itemEntry
	var statuses, wantStatuses statusEntry
	for _, e := range []struct {
		plain       func([]byte) bool
		into, wants any
	}{{results.plain, &results, &wantResults}, {items.plain, &items, &wantItems}, {statuses.plain, &statuses, &wantStatuses}} {
		if !e.plain(entry) {
			continue
		}
		if err := json.Unmarshal(entry, e.wants); err != nil {
			e.wants = err
		}
		plain, decoded = append(plain, e.into), append(decoded, e.wants)
	}
	return plain, decoded
}

// Send is one try of a fake transport.
type Send func(ctx context.Context, call *jobs.Call) ([]jobs.Reply, *jobs.Failure)

func (f Send) send(ctx context.Context, _ context.CancelFunc, r *request) ([]jobs.Reply, *jobs.Failure) {
	return f(ctx, r.call)
}
func (Send) prepare(call *jobs.Call) (*request, *jobs.Failure) { return &request{call: call}, nil }
func (Send) fits(*jobs.Call) bool                              { return true }
func (Send) close()                                            {}

// NewFake returns a service with its policies around a transport that needs no network, to
// be used where time stands still.
func NewFake(cfg Config, deps Deps, send Send) *Service {
	return &Service{name: "billing", cfg: cfg, transport: send, policies: newPolicies("billing", cfg, deps), log: deps.Log}
}

// Sign signs as if at another time.
func Sign(secret, id string, at time.Time, body []byte) (timestamp, signature string) {
	s, err := parseSecrets(jobs.NewSecret(secret))
	if err != nil {
		panic(err)
	}
	return s.sign(id, at, body)
}

// Broken describes an error of a request.
func Broken(ctx context.Context, err error) *jobs.Failure { return broken(ctx, "billing:80", err) }

// FillURL returns the function that fills the holes of a URL.
func FillURL(raw string) func(*jobs.Job) (*url.URL, error) {
	t, err := parseTarget(raw)
	if err != nil {
		panic(err)
	}
	return t.fill
}
