// Package otlp sends spans to a collector by OTLP over HTTP. It is the transport behind
// OpenTelemetry's exporter, which makes the messages.
//
// OpenTelemetry has a transport of its own, otlptracehttp. It is not used because it imports gRPC, which it
// does not need (https://github.com/open-telemetry/opentelemetry-go/issues/2579): a hundred packages that every
// first build compiles, and modules that are to be kept up for their CVEs.
//
// Source of all that is said here of the protocol: https://opentelemetry.io/docs/specs/otlp/#otlphttp and
// https://opentelemetry.io/docs/specs/otel/protocol/exporter/.
package otlp

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"rollcall/internal/jobs"
	"rollcall/internal/retry"
)

const (
	mediaType = "application/x-protobuf"
	// maxReply is how much of a reply is read, in bytes.
	maxReply = 64 << 10
	// maxReason is how much of what a collector says stands in an error, in bytes.
	maxReason = 200
	// minPause and maxPause are the first and the longest pause between two attempts.
	minPause = 500 * time.Millisecond
	maxPause = 5 * time.Second
)

// client posts spans. Its methods are safe for concurrent use.
type client struct {
	settings
	http *http.Client
	// life ends with Stop.
	life context.Context
	end  context.CancelFunc
}

// NewClient returns a client that posts spans as the variables OTEL_EXPORTER_OTLP_* of getenv say. The error
// joins all their faults.
func NewClient(getenv func(string) string) (otlptrace.Client, error) {
	s, err := readSettings(getenv)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if s.tls != nil {
		transport.TLSClientConfig = s.tls
	}
	c := &client{settings: s, http: &http.Client{Transport: transport, CheckRedirect: stay}}
	c.life, c.end = context.WithCancel(context.Background())
	return c, nil
}

// stay takes a redirect for an answer: after one a request may go elsewhere with our headers, or without its body.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Start implements otlptrace.Client. There is nothing to start.
func (c *client) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client. An upload that is still under way ends.
func (c *client) Stop(context.Context) error {
	c.end()
	c.http.CloseIdleConnections()
	return nil
}

// UploadTraces implements otlptrace.Client: it posts spans until a collector has taken them, says that it
// never will, ctx ends or OTEL_EXPORTER_OTLP_TIMEOUT is over. The error says what came of the last attempt that
// was not cut off by that end, or else that it was.
func (c *client) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	body, err := c.encode(spans)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)()
	pauses := retry.Backoff{Lo: minPause, Hi: maxPause}
	var failure error
	for {
		pause, err := c.post(ctx, body)
		if err == nil || !passing(err) {
			return err
		}
		if failure == nil || ctx.Err() == nil {
			failure = err
		}
		pause = max(pause, pauses.Next())
		if by, _ := ctx.Deadline(); time.Until(by) < pause || retry.Wait(ctx, pause) != nil {
			return failure
		}
	}
}

// passing reports whether the same request may be taken later.
func passing(err error) bool {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.passing()
	}
	_, unknown := errors.AsType[*tls.CertificateVerificationError](err)
	return !unknown
}

// encode returns the request. Spans are written as a TracesData, which has the wire format of an
// ExportTraceServiceRequest; that type lives in a package that imports gRPC.
func (c *client) encode(spans []*tracepb.ResourceSpans) ([]byte, error) {
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil || !c.gzip {
		return body, err
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(body); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

// post makes one attempt. With an error it returns how long the collector asks to wait, 0 if it does not say.
func (c *client) post(ctx context.Context, body []byte) (pause time.Duration, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("User-Agent", "rollcall OTel-OTLP-Exporter-Go/"+otlptrace.Version())
	maps.Copy(request.Header, c.header)
	request.Header.Set("Content-Type", mediaType)
	if c.gzip {
		request.Header.Set("Content-Encoding", "gzip")
	}
	reply, err := c.http.Do(request)
	if err != nil {
		return 0, withoutURL(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(io.LimitReader(reply.Body, maxReply))
	if reply.StatusCode/100 != 2 {
		return retry.After(reply.Header.Get("Retry-After"), time.Now(), c.timeout), &refusal{status: reply.StatusCode, reason: c.hide(reason(reply.Header, text))}
	}
	if n, why := rejected(text); err == nil && isProtobuf(reply.Header) && n > 0 {
		return 0, &refusal{status: reply.StatusCode, rejected: n, reason: c.hide(why)}
	}
	return 0, nil
}

// withoutURL leaves the address out of an error: it may hold a key. Host and port are in what it wraps.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("post spans: %w", u.Err)
	}
	return err
}

// hide cuts what a collector says to what an error can hold, without the values of our headers.
func (c *client) hide(text string) string { return jobs.Clip(jobs.Mask(text, c.masked), maxReason) }

// refusal is the answer of a collector that did not take all spans.
type refusal struct {
	status int
	// rejected is how many it did not take of an export that it took.
	rejected int64
	reason   string
}

// Error implements error.
func (r *refusal) Error() string {
	text := fmt.Sprintf("the collector answered %d %s", r.status, http.StatusText(r.status))
	if r.rejected > 0 {
		text = fmt.Sprintf("the collector refused %d spans", r.rejected)
	}
	if r.reason != "" {
		text += ": " + strconv.Quote(r.reason)
	}
	return text
}

// passing reports whether the status is one of those that OTLP tells clients to try again.
func (r *refusal) passing() bool {
	switch r.status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	default:
		return false
	}
}

func isProtobuf(h http.Header) bool {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && kind == mediaType
}

// reason returns what a reply says of its failure: the message of a google.rpc.Status, which is its
// second field, or the text as it is.
func reason(h http.Header, text []byte) string {
	if !isProtobuf(h) {
		return string(bytes.TrimSpace(text))
	}
	var message string
	eachField(text, func(number protowire.Number, _ uint64, value []byte) {
		if number == 2 {
			message = string(value)
		}
	})
	return message
}

// rejected returns how many spans a reply says were not taken, and why: the fields 1 and 2 of its
// partial success, which is the first field of an ExportTraceServiceResponse.
func rejected(text []byte) (n int64, why string) {
	eachField(text, func(number protowire.Number, _ uint64, partial []byte) {
		if number != 1 {
			return
		}
		eachField(partial, func(number protowire.Number, value uint64, text []byte) {
			switch number {
			case 1:
				n = int64(value)
			case 2:
				why = string(text)
			}
		})
	})
	return n, why
}

// eachField calls see for each field of a message, up to the first that cannot be read: with the value
// of a varint, the bytes of a field that has a length, and zeros for the other types.
func eachField(message []byte, see func(number protowire.Number, value uint64, text []byte)) {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return
		}
		message = message[n:]
		var value uint64
		var text []byte
		switch kind {
		case protowire.VarintType:
			value, n = protowire.ConsumeVarint(message)
		case protowire.BytesType:
			text, n = protowire.ConsumeBytes(message)
		default:
			n = protowire.ConsumeFieldValue(number, kind, message)
		}
		if n < 0 {
			return
		}
		message = message[n:]
		see(number, value, text)
	}
}
