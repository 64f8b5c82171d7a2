package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"rollcall/internal/jobs"
)

const (
	maxHeader = 64 << 10
	// writeBuffer takes the headers of a call, and its body if that is short. A longer one goes as direct
	// has it.
	writeBuffer = 4 << 10
	// tlsBuffer takes a call of usual size: 96 jobs of 256 bytes are 41 KiB. For the rest of a longer one
	// net/http takes a buffer, for each request.
	tlsBuffer  = 64 << 10
	readBuffer = 8 << 10
	// maxKept is the largest read buffer that goes back to the pool.
	maxKept = 256 << 10
	// maxDrained and drainTime are how much of an unwanted body is read, and for how long, to
	// keep the connection.
	maxDrained = 4 << 10
	drainTime  = 100 * time.Millisecond
)

// httpTransport sends calls over HTTP. It uses the round tripper without [http.Client]: no
// redirects, no cookies, no credentials from the URL, and less work.
type httpTransport struct {
	cfg    *Config
	target *target
	extra  *watched[[]extraHeader]
	conns  *connections
	heads  heads
	// blank is what all requests have in common.
	blank   *http.Request
	reading reading
	buffers sync.Pool
}

func newHTTP(name, rawURL string, cfg *Config, deps Deps) (*httpTransport, error) {
	t := &httpTransport{
		cfg: cfg, reading: newReading(name, cfg, deps.RetryMax),
		blank: &http.Request{Method: cfg.Method, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1},
	}
	var err error
	if t.target, err = parseTarget(rawURL); err != nil {
		return nil, err
	}
	t.reading.plain = t.target.base.Scheme == "http"
	if t.extra, err = newExtra(name, cfg, deps); err != nil {
		return nil, err
	}
	if t.heads, err = newHeads(name, cfg, deps); err != nil {
		return nil, err
	}
	t.conns, err = newConnections(name, t.target.base.Scheme, cfg, deps)
	return t, err
}

func (t *httpTransport) fits(*jobs.Call) bool { return true }

func (t *httpTransport) close() { t.conns.close() }

// prepare implements transport.
func (t *httpTransport) prepare(call *jobs.Call) (*request, *jobs.Failure) {
	r := &request{call: call, url: &t.target.base}
	var err error
	if t.target.holes() {
		if r.url, err = t.target.fill(call.Jobs[0]); err != nil {
			return nil, unfilled(err)
		}
	}
	if err = r.fillExtra(t.extra.get()); err != nil {
		return nil, unfilled(err)
	}
	return r, nil
}

// send implements transport.
func (t *httpTransport) send(ctx context.Context, cancel context.CancelFunc, r *request) ([]jobs.Reply, *jobs.Failure) {
	auth, failure := t.heads.authorization(ctx)
	if failure != nil {
		return nil, failure
	}
	if t.heads.oauth == nil {
		return t.exchange(ctx, cancel, r, auth)
	}
	replies, failure := t.alone(ctx, r, auth)
	if failure != nil && failure.Code == http.StatusUnauthorized && t.heads.renew(auth) {
		if auth, renewed := t.heads.authorization(ctx); renewed == nil {
			return t.alone(ctx, r, auth)
		}
	}
	return replies, failure
}

// alone makes an exchange whose end is not that of the try.
func (t *httpTransport) alone(ctx context.Context, r *request, auth string) ([]jobs.Reply, *jobs.Failure) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return t.exchange(ctx, cancel, r, auth)
}

// exchange sends one request and reads the reply. It cancels ctx to give up a body that does not end.
func (t *httpTransport) exchange(ctx context.Context, cancel context.CancelFunc, r *request, auth string) ([]jobs.Reply, *jobs.Failure) {
	header := t.heads.of(r, auth)
	resp, err := t.roundTrip(ctx, r, header)
	if err != nil {
		return nil, broken(ctx, t.target.base.Host, err)
	}
	defer func() { _ = resp.Body.Close() }()
	unzip(resp)
	r.answer.noteStatus(resp.StatusCode)
	if r.answer != nil {
		r.answer.secrets = t.heads.secrets(r, auth)
	}
	if t.reading.classify(resp.StatusCode) == accepted {
		return t.accept(ctx, cancel, resp, r, func() []string { return t.heads.secrets(r, auth) })
	}
	said := jobs.Printable(hide(string(quote(resp, cancel)), t.heads.secrets(r, auth)...), maxQuote)
	return nil, t.reading.failure(resp.StatusCode, said, resp.Header.Get(headerRetryAfter), sentAt(resp))
}

// sentAt is when the service answered by its own clock: a date in Retry-After is of that clock.
func sentAt(resp *http.Response) time.Time {
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		return at
	}
	return time.Now()
}

// trace is how far a request came. net/http reports it from several goroutines.
type trace struct {
	reused, begun, answered atomic.Bool
	// replayed is set when net/http wants to send again what has left already.
	replayed atomic.Bool
	giveUp   context.CancelCauseFunc // nil where net/http never wants to
	conn     atomic.Pointer[direct]  // nil over HTTP/2
}

// got notes the connection that the request has got. A second one for what has left on the first is closed
// before anything is written to it.
func (tr *trace) got(info httptrace.GotConnInfo, body int) {
	if last := tr.conn.Load(); last != nil && last.left.Load() && tr.giveUp != nil {
		tr.replayed.Store(true)
		tr.giveUp(errReplayed)
		_ = info.Conn.Close()
		return
	}
	tr.begun.Store(false)
	tr.reused.Store(info.Reused)
	c := directOf(info.Conn)
	if c != nil {
		c.left.Store(false)
	}
	if c, plain := info.Conn.(*direct); plain {
		c.expect(body)
	}
	tr.conn.Store(c)
}

// unwritten reports whether no byte of the request has left.
func (tr *trace) unwritten() bool {
	conn := tr.conn.Load()
	return conn != nil && !conn.left.Load()
}

var errReplayed = errors.New("a try is one request")

// why returns what has ended a round trip.
func (tr *trace) why(err error) error {
	switch {
	case err == nil || !tr.replayed.Load():
		return err
	case tr.conn.Load().wasReset.Load():
		return syscall.ECONNRESET
	default:
		return io.EOF
	}
}

// roundTrip sends a request. One that meets a kept connection which the service has reset, with
// no byte of a reply, is sent once more on a new one: it says nothing of the service, only of
// how long connections live there. A connection that was closed in good order is another matter:
// the request may have arrived, if a byte of it has left.
func (t *httpTransport) roundTrip(ctx context.Context, r *request, header http.Header) (*http.Response, error) {
	g := t.conns.current()
	tr := new(trace)
	// A round trip that panics, or ends without an answer, may leave a reader behind.
	r.reading.Add(1)
	resp, err := g.kept.RoundTrip(t.request(ctx, r, header, tr))
	err = tr.why(err)
	if err != nil && tr.reused.Load() && !tr.answered.Load() && ctx.Err() == nil && (isReset(err) || tr.unwritten()) {
		tr = new(trace)
		resp, err = g.fresh.RoundTrip(t.request(ctx, r, header, tr))
	}
	if err != nil && !tr.begun.Load() {
		err = &unsentError{err}
	}
	if err == nil && resp.ProtoMajor == 1 {
		r.reading.Add(-1)
	}
	return resp, err
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// request returns the request of net/http. It is made for each try.
func (t *httpTransport) request(ctx context.Context, r *request, header http.Header, tr *trace) *http.Request {
	body := r.call.Body
	if !t.cfg.sendsBody() {
		body = nil
	}
	if t.cfg.Method == http.MethodGet { // net/http takes that for leave to repeat it (Request.isReplayable)
		ctx, tr.giveUp = context.WithCancelCause(ctx) // ends with the try
	}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			r.reading.Add(1)
			tr.got(info, len(body))
		},
		// With HTTP/2 a request that has got a connection may still wait for a stream of it.
		WroteHeaders:         func() { tr.begun.Store(true) },
		WroteRequest:         func(httptrace.WroteRequestInfo) { r.reading.Add(-1) },
		GotFirstResponseByte: func() { tr.answered.Store(true) },
	})
	req := t.blank.WithContext(ctx)
	req.URL, req.Host, req.Header = r.url, r.url.Host, header
	if len(body) == 0 {
		req.Body = http.NoBody
		return req
	}
	req.ContentLength = int64(len(body))
	req.Body = io.NopCloser(bytes.NewReader(body))
	// net/http may use another connection when a kept one turns out to be closed before
	// anything was written to it.
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	return req
}

// quote reads the beginning of a body that nobody needs, so that its connection can be kept. A
// body that does not end is given up: the status has said all, and must not become a time-out.
func quote(resp *http.Response, cancel context.CancelFunc) []byte {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return nil // the body is the connection itself, and no context ends reading from it
	}
	enough := time.AfterFunc(drainTime, cancel)
	defer enough.Stop()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxDrained))
	return body
}

// accept reads the reply with an accepted status.
func (t *httpTransport) accept(ctx context.Context, cancel context.CancelFunc, resp *http.Response, r *request, known secrets) ([]jobs.Reply, *jobs.Failure) {
	call := r.call
	if resp.ContentLength == 0 || !t.cfg.readsBody() {
		if resp.ContentLength != 0 {
			r.answer.noteBody(quote(resp, cancel))
		}
		return t.reading.accept(call, nil, "", known)
	}
	limit := int(t.cfg.MaxReply)
	batch := t.cfg.Format == FormatBatch
	if resp.ContentLength > int64(limit) && batch {
		return nil, tooLarge(t.cfg.MaxReply)
	}
	buf, _ := t.buffers.Get().(*[]byte)
	if buf == nil {
		buf = new(make([]byte, 0, readBuffer))
	}
	body, err := readCapped((*buf)[:0], resp.Body, limit)
	defer func() {
		if cap(body) <= maxKept {
			*buf = body
			t.buffers.Put(buf)
		}
	}()
	switch {
	case err != nil && !batch:
		return t.reading.accept(call, nil, "", known) // the status has said all
	case errors.Is(err, errTooLarge):
		return nil, tooLarge(t.cfg.MaxReply)
	case err != nil:
		return nil, broken(ctx, t.target.base.Host, err)
	case len(body) == 0 && batch && endsByClosing(resp):
		return nil, broken(ctx, t.target.base.Host, fmt.Errorf("the connection was closed behind the headers: %w", io.ErrUnexpectedEOF))
	}
	r.answer.noteBody(body)
	return t.reading.accept(call, body, resp.Header.Get(headerContentType), known)
}

// endsByClosing reports whether the body of a reply ends where the connection does: no length, no
// chunks. An empty one may be a handler that raised behind its headers. In HTTP/1.0 every body may end
// so, and servers of it leave the length out.
func endsByClosing(resp *http.Response) bool {
	_, zipped := resp.Body.(*gzipBody) // says itself where it ends
	return resp.ContentLength < 0 && resp.ProtoMajor == 1 && resp.ProtoMinor == 1 && len(resp.TransferEncoding) == 0 && !zipped &&
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
		case err == io.EOF: // a wrapped EOF is a broken reply
			return b, nil
		case err != nil:
			return b, err
		}
	}
}
