package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"rollcall/internal/jobs"
)

const (
	maxHeader = 64 << 10
	// writeBuffer takes a call of usual size in one write to the kernel: 96 jobs of 256 bytes
	// are 41 KiB. What is longer costs net/http a buffer of its own for each request.
	writeBuffer = 64 << 10
	readBuffer  = 8 << 10
	// maxKept is the largest read buffer that goes back to the pool.
	maxKept = 256 << 10
	// maxDrained and drainTime are how much of an unwanted body is read, and for how long, to
	// keep the connection.
	maxDrained = 4 << 10
	drainTime  = 100 * time.Millisecond
)

// Header names, in the spelling of [http.CanonicalHeaderKey].
const (
	headerContentType    = "Content-Type"
	headerRetryAfter     = "Retry-After"
	headerIdempotencyKey = "Idempotency-Key"
	headerBatch          = "Rollcall-Batch"
	headerPool           = "Rollcall-Pool"
	headerTraceparent    = "Traceparent"
	headerWebhookID      = "Webhook-Id"
	headerWebhookTime    = "Webhook-Timestamp"
	headerWebhookSign    = "Webhook-Signature"
)

// lowerIdempotencyKey is how the key is sent by HTTP, where case does not matter. Under the
// canonical name net/http takes it for leave to send a body again, uncounted, on every
// connection that it keeps, when the service breaks on it (Request.isReplayable). Repeating is
// for the retry policy.
const lowerIdempotencyKey = "idempotency-key"

// httpTransport sends calls by POST. It uses the round tripper without [http.Client]: no
// redirects, no cookies, no credentials from the URL, and less work.
type httpTransport struct {
	target  string // host, for error texts
	rt      *http.Transport
	request *http.Request
	fixed   http.Header
	signer  signer
	decoder decoder
	buffers sync.Pool
}

func newHTTP(name string, target *url.URL, cfg Config, deps Deps) (*httpTransport, error) {
	secrets, err := parseSecrets(cfg.Secret)
	if err != nil {
		return nil, err
	}
	t := &httpTransport{
		target: target.Host, signer: secrets,
		decoder: newDecoder(cfg.MaxReply, deps.RetryMax),
		request: &http.Request{Method: http.MethodPost, URL: target, Host: target.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1},
		fixed: http.Header{
			headerContentType: {jobs.MediaBatch},
			"Accept":          {"application/json"},
			"User-Agent":      {"rollcall/" + deps.Version},
		},
	}
	if !cfg.Token.IsZero() {
		t.fixed["Authorization"] = []string{"Bearer " + cfg.Token.Reveal()}
	}
	t.rt, err = newRoundTripper(name, target.Scheme, cfg, deps)
	return t, err
}

// newRoundTripper returns a connection pool for one service: as many connections as calls may
// be under way, all of them kept.
func newRoundTripper(name, scheme string, cfg Config, deps Deps) (*http.Transport, error) {
	limit := int(cfg.Concurrency)
	if cfg.Concurrency == Auto {
		limit = autoMax
	}
	rt := &http.Transport{
		MaxConnsPerHost: limit, MaxIdleConnsPerHost: limit, MaxIdleConns: limit, IdleConnTimeout: 90 * time.Second,
		MaxResponseHeaderBytes: maxHeader, WriteBufferSize: writeBuffer, ReadBufferSize: readBuffer,
		ForceAttemptHTTP2: true,
		// A dead HTTP/2 connection would otherwise fail every call that shares it, for minutes.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
	}
	if scheme != "https" {
		rt.DialContext = newDialer(cfg, nil, deps.Resolver).DialContext
		return rt, nil
	}
	config, err := cfg.tlsConfig(name)
	if err != nil {
		return nil, err
	}
	d := newDialer(cfg, config, deps.Resolver)
	rt.DialContext, rt.DialTLSContext, rt.TLSClientConfig = d.DialContext, d.dialTLS, config
	return rt, nil
}

func (t *httpTransport) fits(*jobs.Call) bool { return true }

func (t *httpTransport) close() { t.rt.CloseIdleConnections() }

// send implements transport.
func (t *httpTransport) send(ctx context.Context, call *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
	req := t.request.WithContext(ctx)
	req.Header = t.header(call)
	req.ContentLength = int64(len(call.Body))
	req.Body = io.NopCloser(bytes.NewReader(call.Body))
	// net/http may use another connection when a kept one turns out to be closed before
	// anything was written to it.
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(call.Body)), nil }
	resp, err := t.rt.RoundTrip(req)
	if err != nil {
		return nil, broken(ctx, t.target, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		if !resp.Uncompressed {
			drain(resp.Body)
		}
		return nil, statusFailure(resp.StatusCode, "", resp.Header.Get(headerRetryAfter), t.decoder.retryMax)
	}
	return t.read(ctx, resp, call)
}

// drain reads what is left of a small body. A body that does not end is closed: the status has
// said all, and must not become a time-out. Not for a body that net/http decompresses: that one
// cannot be closed while it waits for its first bytes.
func drain(body io.ReadCloser) {
	enough := time.AfterFunc(drainTime, func() { _ = body.Close() })
	defer enough.Stop()
	_, _ = io.CopyN(io.Discard, body, maxDrained)
}

// header returns the headers of one try. The values of one call share one backing array.
func (t *httpTransport) header(call *jobs.Call) http.Header {
	h := make(http.Header, len(t.fixed)+7)
	for name, values := range t.fixed {
		h[name] = values
	}
	values := make([]string, 0, 7)
	set := func(name, value string) {
		values = append(values, value)
		h[name] = values[len(values)-1 : len(values) : len(values)]
	}
	set(lowerIdempotencyKey, `"`+call.Key+`"`)
	set(headerBatch, call.BatchID)
	set(headerPool, call.Pool)
	if call.Traceparent != "" {
		set(headerTraceparent, call.Traceparent)
	}
	if len(t.signer.secrets) > 0 {
		timestamp, signature := t.signer.sign(call.Key, time.Now(), call.Body)
		set(headerWebhookID, call.Key)
		set(headerWebhookTime, timestamp)
		set(headerWebhookSign, signature)
	}
	return h
}

// read reads and decodes a 2xx reply.
func (t *httpTransport) read(ctx context.Context, resp *http.Response, call *jobs.Call) ([]jobs.Reply, *jobs.Failure) {
	if resp.ContentLength == 0 {
		return t.decoder.decode(call, nil, "")
	}
	if resp.ContentLength > int64(t.decoder.maxReply) {
		return nil, tooLarge(t.decoder.maxReply)
	}
	buf, _ := t.buffers.Get().(*[]byte)
	if buf == nil {
		buf = new(make([]byte, 0, readBuffer))
	}
	body, err := readCapped((*buf)[:0], resp.Body, int(t.decoder.maxReply))
	defer func() {
		if cap(body) <= maxKept {
			*buf = body
			t.buffers.Put(buf)
		}
	}()
	switch {
	case errors.Is(err, errTooLarge):
		return nil, tooLarge(t.decoder.maxReply)
	case err != nil:
		return nil, broken(ctx, t.target, err)
	case len(body) == 0 && endsByClosing(resp):
		return nil, broken(ctx, t.target, fmt.Errorf("the connection was closed behind the headers: %w", io.ErrUnexpectedEOF))
	}
	return t.decoder.decode(call, body, resp.Header.Get(headerContentType))
}

// endsByClosing reports whether the body of a reply ends where the connection does: no length, no
// chunks. An empty one may be a handler that raised behind its headers.
func endsByClosing(resp *http.Response) bool {
	return resp.ContentLength < 0 && resp.ProtoMajor == 1 && len(resp.TransferEncoding) == 0 && !resp.Uncompressed &&
		resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusResetContent
}

var errTooLarge = errors.New("too large")

// readCapped appends what r holds to b, at most limit bytes.
func readCapped(b []byte, r io.Reader, limit int) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case len(b) > limit:
			return b, errTooLarge
		case err == io.EOF: //nolint:errorlint // a wrapped EOF is a broken reply
			return b, nil
		case err != nil:
			return b, err
		}
	}
}
