package bus

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"rollcall/internal/jobs"

	"rollcall/internal/retry"
)

const (
	dialTimeout   = 2 * time.Second
	reconnectWait = 500 * time.Millisecond
	// So many pings for as long as a connection may be silent make a live one carry something.
	// Unanswered pings alone end only those that are not TCP, and a server that answers nothing
	// but still sends.
	pingsPerSilence = 3
	maxPings        = 2 * pingsPerSilence
	// flushTimeout bounds the last flush: acks that do not get out are made up for by the ledger.
	flushTimeout = 5 * time.Second
)

// Conn is the connection to NATS. It reconnects for ever; when it is closed all the same
// (the server can do that, see [Conn.Closed]), the process has to end.
type Conn struct {
	nc *nats.Conn
	js jetstream.JetStream
	// api is what the subjects of the JetStream API begin with, without a dot at the end.
	api string
	log zerolog.Logger
	// done is the stream of events and ledger; empty = [StreamDone].
	done string
	// clock is an estimate of the broker's.
	clock *Clock

	// polite is set at the end, when everything was flushed: see [line].
	polite atomic.Bool
	// line is the last one that was made; nil if the connection is not TCP.
	line atomic.Pointer[line]
	// answerWait is how long an answer to a commit is waited for; readWait is how long the server
	// may then take to read it.
	answerWait, readWait time.Duration
	// inbox is what every inbox of the connection begins with.
	inbox string
	// dropped is signalled when the server has dropped a subscription, see [Conn.lost].
	dropped     chan struct{}
	parts       sync.WaitGroup
	closed      chan struct{}
	connected   atomic.Bool
	disconnects atomic.Uint64
	reconnects  atomic.Uint64

	mu sync.Mutex
	// closing is set once Close was called; reason is why the connection ended otherwise.
	closing bool
	reason  error
	denied  denials
	heeds   []*heed
	// tolerated are the beginnings of subjects that may be denied.
	tolerated []string
	// needed are the subscriptions, besides inboxes, that the worker depends on.
	needed map[string]struct{}
	// resumed is called after every reconnect, letGo see [Conn.OnLost].
	resumed []func()
	letGo   []func(subject string)
}

// Connect dials one of cfg's servers and retries until one answers or ctx is done; then the
// error wraps [ErrUnreachable]. Files that cannot be used are [ErrSetting]. A refused login is returned at once. name is shown by the
// server's monitoring. With extra options, for example [nats.InProcessServer], the
// connection can be made to an embedded server.
func Connect(ctx context.Context, cfg Config, name string, log zerolog.Logger, extra ...nats.Option) (*Conn, error) {
	if err := cfg.CheckFiles(); err != nil {
		return nil, err
	}
	options, err := cfg.options()
	if err != nil {
		return nil, err
	}
	c := &Conn{
		log: log, clock: NewClock(log, time.Now), api: cfg.api(), inbox: cfg.inbox() + ".",
		answerWait: cfg.within(4, maxAnswerWait), readWait: cfg.within(4, maxReadWait),
		dropped: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	silence := cfg.within(2, maxSilence)
	options = append(options,
		nats.Name(name), nats.Timeout(dialTimeout), nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(reconnectWait, 2*reconnectWait),
		nats.PingInterval(silence/pingsPerSilence), nats.MaxPingsOutstanding(maxPings),
		// Nothing is buffered until a reconnect: the sender may have given it up by then, and a
		// commit that was given up must not be stored later.
		nats.ReconnectBufSize(-1), nats.ReconnectOnFlusherError(),
		nats.SetCustomDialer(dialer{silence: silence, polite: &c.polite, current: &c.line}), nats.SkipHostLookup(),
		nats.DisconnectErrHandler(c.onDisconnect), nats.ReconnectHandler(c.onReconnect),
		nats.ClosedHandler(c.onClosed), nats.ErrorHandler(c.onError))
	options = append(options, extra...)
	for logged := false; ; logged = true {
		c.nc, err = nats.Connect(cfg.URL, options...)
		if err == nil {
			break
		}
		if !worthRedialling(err) {
			return nil, fmt.Errorf("connect to %s: %w", jobs.MaskURLs(cfg.URL), err)
		}
		if !logged {
			log.Warn().Err(err).Str("url", jobs.MaskURLs(cfg.URL)).Msg("NATS is not reachable yet, retrying")
		}
		if retry.Wait(ctx, retry.Jitter(reconnectWait)) != nil {
			return nil, fmt.Errorf("connect to %s (NATS_URL): %w: %w", jobs.MaskURLs(cfg.URL), ErrUnreachable, err)
		}
	}
	if c.js, err = c.NewJetStream(); err != nil {
		c.nc.Close()
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	c.connected.Store(true)
	c.parts.Go(func() { c.relieve(c.nc) })
	return c, nil
}

// inboxName matches users whose name is one plain token of a subject. They get an inbox of
// their own, so that a server can keep users from reading each other's answers; it is still
// below _INBOX, the right that clients are given where nobody thought of it.
var inboxName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// api is what the subjects of the JetStream API begin with, without a dot at the end.
func (c Config) api() string {
	switch {
	case c.JSDomain != "":
		return "$JS." + c.JSDomain + ".API"
	case c.JSAPIPrefix != "":
		return strings.TrimSuffix(c.JSAPIPrefix, ".")
	default:
		return "$JS.API"
	}
}

// inbox is what the inboxes of the connection begin with, without a dot at the end.
func (c Config) inbox() string {
	prefix := strings.TrimSuffix(nats.InboxPrefix, ".")
	if c.Creds == "" && c.NKey == "" && !c.Password.IsZero() && inboxName.MatchString(c.User) {
		return prefix + "." + c.User
	}
	return prefix
}

// options turns the settings into those of nats.go.
func (c Config) options() ([]nats.Option, error) {
	var options []nats.Option
	switch {
	case c.Creds != "":
		options = append(options, nats.UserCredentials(c.Creds))
	case c.NKey != "":
		option, err := nats.NkeyOptionFromSeed(c.NKey)
		if err != nil {
			return nil, fmt.Errorf("read the seed file named by NATS_NKEY: %w", err)
		}
		options = append(options, option)
	case c.User != "" && c.Password.IsZero():
		options = append(options, nats.Token(c.User))
	case c.User != "":
		// Asked at every connect: the file of a secret may change.
		options = append(options, nats.UserInfoHandler(func() (string, string) { return c.User, c.Password.Current().Reveal() }))
		options = append(options, nats.CustomInboxPrefix(c.inbox()))
	case !c.Token.IsZero():
		options = append(options, nats.TokenHandler(func() string { return c.Token.Current().Reveal() }))
	}
	if c.CA != "" {
		options = append(options, nats.RootCAs(c.CA))
	}
	if c.Cert != "" {
		options = append(options, nats.ClientCert(c.Cert, c.Key))
	}
	return options, nil
}

// worthRedialling distinguishes a server that is away from one that turned us down and from
// settings that cannot work.
func worthRedialling(err error) bool {
	var network interface{ Timeout() bool }
	return errors.Is(err, nats.ErrNoServers) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrStaleConnection) ||
		errors.Is(err, nats.ErrConnectionClosed) || errors.As(err, &network)
}

// NATS returns the connection itself, for services called over NATS. It must not be closed.
func (c *Conn) NATS() *nats.Conn { return c.nc }

// Closed is closed once the connection is gone for good; [Conn.Err] then says why.
// nats.go gives up on errors it does not know and on a login that was revoked: a worker
// must not live on without its broker.
func (c *Conn) Closed() <-chan struct{} { return c.closed }

// Err returns why the connection was closed, nil while it is not or when Close was called.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

// Healthy returns nil while a server is connected.
func (c *Conn) Healthy() error {
	if err := c.Err(); err != nil {
		return err
	}
	if !c.connected.Load() {
		return errors.New("not connected to NATS")
	}
	return nil
}

// online reports whether a server is connected and everybody has heard of the last reconnect.
func (c *Conn) online() bool { return c.connected.Load() && c.nc.IsConnected() }

// Disconnects counts how often the connection broke.
func (c *Conn) Disconnects() uint64 { return c.disconnects.Load() }

// Reconnects counts how often it was made again.
func (c *Conn) Reconnects() uint64 { return c.reconnects.Load() }

// Close flushes what was published, within ctx and five seconds, and closes the connection.
func (c *Conn) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	var err error
	if c.nc.IsConnected() {
		err = c.nc.FlushWithContext(ctx)
		c.polite.Store(err == nil)
	}
	c.nc.Close()
	<-c.closed
	c.parts.Wait()
	if err != nil {
		return fmt.Errorf("flush the connection: %w", err)
	}
	return nil
}

// readOrCut makes sure that what was sent over l and got no answer does not arrive later: the
// server shows in time that it has read it, or the line is cut. It does not wait for that.
func (c *Conn) readOrCut(l *line) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || l == nil {
		return
	}
	c.parts.Go(func() {
		if err := c.nc.FlushTimeout(c.readWait); err != nil {
			c.log.Warn().Err(err).Msg("the server does not read what is sent to it, reconnecting")
			l.cut()
		}
	})
}

// publishOnline publishes a message that nobody confirms. While no server is connected it
// waits, until ctx ends: nothing is kept for a reconnect.
func (c *Conn) publishOnline(ctx context.Context, m *nats.Msg) error {
	again := retry.Backoff{Lo: 20 * time.Millisecond, Hi: reconnectWait}
	for {
		err := c.nc.PublishMsg(m)
		if !errors.Is(err, nats.ErrReconnectBufExceeded) {
			return err
		}
		if cause := retry.Wait(ctx, again.Next()); cause != nil {
			return fmt.Errorf("not connected to NATS: %w", cause)
		}
	}
}

// generation counts the connections that were made. Unlike [Conn.Reconnects] it is never late.
func (c *Conn) generation() uint64 { return c.nc.Stats().Reconnects }

// onResume registers what is called after every reconnect. It must not block.
func (c *Conn) onResume(resume func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resumed = append(c.resumed, resume)
}

func (c *Conn) onDisconnect(_ *nats.Conn, err error) {
	c.connected.Store(false)
	c.mu.Lock()
	closing := c.closing
	c.mu.Unlock()
	if closing {
		return
	}
	c.disconnects.Add(1)
	c.log.Warn().Err(err).Msg("lost the connection to NATS, reconnecting")
}

func (c *Conn) onReconnect(nc *nats.Conn) {
	c.reconnects.Add(1)
	c.mu.Lock()
	resumed := slices.Clone(c.resumed)
	c.mu.Unlock()
	for _, resume := range resumed {
		resume()
	}
	c.connected.Store(true)
	c.log.Info().Str("server", nc.ConnectedServerName()).Msg("connected to NATS again")
}

func (c *Conn) onClosed(nc *nats.Conn) {
	c.connected.Store(false)
	c.mu.Lock()
	if !c.closing {
		err := nc.LastError()
		if err == nil {
			err = nats.ErrConnectionClosed
		}
		c.reason = fmt.Errorf("the NATS connection is closed: %w", err)
	}
	c.mu.Unlock()
	close(c.closed)
}
